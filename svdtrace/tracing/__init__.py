"""How the method runs on devices, from prompts to tables.

prepare    weights folded, decomposed and laid out          observe    the forward pass, and where heads fire
attribute  slices, contributions, edges of the firings      rows       what came back, as rows on the host
batching   prompts in batches of few shapes                 sharding   several devices
roots      where a trace starts                             paths      how many ways lead from there
over_keys  what relative attention reads, as the others do  descending what roots reach, from the top
pairs      which pairs fire, or all but fire                near_ties  decisions within rounding
rounding   what bfloat16 changes                            devices    where it is computed
tables     the three tables                                 manifest   how they came about
loops      work a part at a time, within a program
pipeline   the stages of one batch                          trace      a whole trace
"""
