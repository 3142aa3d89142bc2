"""How would others' autoscalers have decided? Their published laws, asked like ours, for comparisons only.

Never: in production; a law that its project does not document.
"""
