"""How every picture is drawn: figures of a trace, and what they share with the page.

colours          the colours, by what they stand for
style            shades, fonts, sizes; a figure into a file
layers           where the nodes of a circuit stand: layers upwards, roles side by side
layered_picture  a circuit drawn so
connections      edges counted by (writer, reader, role, side)
token_roles      the role of every token
traced           what was traced, in numbers
figures          the pictures of a trace
"""
