"""How is a whole file of requests run, so that none is lost and none that was answered is asked again?

Files are read and written line by line, in OpenAI's batch format; the journal beside the output is the truth.
Never: holds a file in memory, starts an engine, prints, or knows whom it asks but for a base URL.
"""
