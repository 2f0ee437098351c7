"""What people look at in a browser: the live page and the report.

traces      what the live page knows of each series
watcher     what browsers lack of it, as messages
server      the consumer of readings, and the server: `WebPage`. Needs starlette and uvicorn: f1buf[web]
report      one page of a recording

`static/` holds the live page: `page.html`, and `page.js` with the modules that it imports, without a build step. What
the report has, too: `look.css`, the colours and the type; and uPlot 1.6.32 (https://github.com/leeoniya/uPlot), which
draws the traces, as npm has it, under its MIT licence (`uPlot-LICENSE.txt`).
"""
