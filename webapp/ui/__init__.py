"""The Panel app: views of the mode, the local runtime, the models and the usage. It asks hybrid/ and state/, nobody asks it.

`facts` says what each view shows, `actions` does what a person asks for there (both plain Python, tested without Panel); `views`
are the Panel components, each with a small JavaScript module beside it; `link` carries the Bokeh document to the shell;
`app` joins them.
"""
