"""Graph to Plan, in passes that each do one thing.

gradients   append the backward nodes
fusion      activations, residuals and norms into the ops before them, dead nodes away
builder     nodes -> native ops over symbolic buffers
schedule    native ops -> phases
memory      buffers -> offsets in one arena
program     the passes in their order, and the Program that callers hold
"""
