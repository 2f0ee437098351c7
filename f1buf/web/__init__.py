"""What people look at in a browser: the live page and the report.

`static/` holds uPlot 1.6.32 (https://github.com/leeoniya/uPlot), which draws the traces, as npm has it, under its MIT
licence (`uPlot-LICENSE.txt`); and `look.css`, the colours and the type that both pages have in common.
"""
