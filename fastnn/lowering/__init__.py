"""From a function to a program, in parts that each do one thing.

call        argument arrays, structures of outputs
trace       functions -> graphs, and the proof that a graph holds for a batch
watch       what a trace depends on besides its arguments
cache       the programs of an owner, made at need and kept while they hold
gradients   append the backward nodes
fusion      activations, residuals and norms into the ops before them, dead nodes away
signature   what native ops take, by name
builder     nodes -> native ops over symbolic buffers
schedule    native ops -> phases
memory      buffers -> offsets in one arena
program     the passes in their order, and the Program that callers hold
explain     a program as text
profile     where a program's time goes, held against what the machine gives (roofline)
"""
