"""How do clients of other servers get in? TGI's and Ollama's own APIs, put into the words of an inner route and back.

Never: chooses a replica, counts or limits anything: that is done for the inner route, as for every other request.
"""
