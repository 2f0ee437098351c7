"""What a report of a session says, as data; `f1buf.web.report` makes the page of it.

gather     a consumer that keeps of each series what a report needs, in bounded memory
outliers   readings and series that stand out
thin       traces of fewer points, in which no extreme is lost
data       all of it as one dict, ready for JSON
"""

from f1buf.telemetry.report.data import KeptAlerts, report_data
from f1buf.telemetry.report.gather import Gatherer

__all__ = ["Gatherer", "KeptAlerts", "report_data"]
