"""Why a head attended there: one firing of one prompt, told in words and tokens.

card      what is told: values alone
finding   from a trace's tables to a card
effects   what taking an edge away did, where that was tried
words     how numbers, tokens and writers are called
told      the sentences that every form of a card has
terminal  a card as lines of text
notebook  a card as HTML for a notebook
asking    a firing or an edge asked for by name
"""
