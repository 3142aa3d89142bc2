"""What should Prometheus watch, and when should somebody be told? Its configuration, rules, and an Alertmanager's.

Never: metrics that nobody exports. What the rules name is held against a running gateway by the tests.
"""
