"""Prints the samples of a page, as the Python client's parsers read it, as JSON."""
import json
import sys

kind, name = sys.argv[1:]
if kind == "openmetrics":
    from prometheus_client.openmetrics.parser import text_string_to_metric_families
else:
    from prometheus_client.parser import text_string_to_metric_families
with open(name, encoding="utf-8", newline="") as f:
    page = f.read()
samples = [
    {"Name": s.name, "Labels": s.labels, "Value": repr(float(s.value))}
    for family in text_string_to_metric_families(page)
    for s in family.samples
]
json.dump(samples, sys.stdout)
