"""What do people look at? Grafana's dashboards over the same figures as the alerts, and how Grafana finds them.

Never: a query that Prometheus was not asked in the tests, or a Grafana that was: none runs there, their schema stands in.
"""
