# The rival of a start from the warming pool: what an interpreter must do at least to ask the Runtime API for its first
# event when it is started for it. Python's own HTTP client, nothing else imported.
import http.client
import os

connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
connection.request("GET", "/2018-06-01/runtime/invocation/next")
connection.getresponse()
