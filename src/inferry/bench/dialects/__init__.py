"""One file per API: how an ask becomes a request, and what an answer's bytes say. Nothing here waits or sends."""
