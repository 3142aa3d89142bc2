"""Facts with sources: models, devices and engines. Data files, and the code that reads them."""
