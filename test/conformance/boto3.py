# boto3.py is run by TestBoto3 with Debian's boto3: it fails by an exception.
import base64
import hashlib
import io
import json
import os
import time
import urllib.request
import zipfile

import boto3
import botocore.config
import botocore.exceptions

client = boto3.client("lambda", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
account = os.environ["KILN_ACCOUNT_ID"]


def package(source):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as z:
        z.writestr("f.py", source)
    return buffer.getvalue()


code = package("import os\ndef handler(event, context):\n    return {'got': event, 'mood': os.environ.get('MOOD')}\n")
made = client.create_function(
    FunctionName="boto", Runtime="python3.9", Handler="f.handler", Role="arn:aws:iam::000000000000:role/x",
    Code={"ZipFile": code}, Timeout=10, MemorySize=256, Publish=True, Environment={"Variables": {"MOOD": "calm"}})
assert made["ResponseMetadata"]["HTTPStatusCode"] == 201, made
assert made["Version"] == "1", made
client.get_waiter("function_active_v2").wait(FunctionName="boto", WaiterConfig={"Delay": 1})
client.get_waiter("function_exists").wait(FunctionName="boto")

got = client.get_function(FunctionName="boto")
digest = base64.b64encode(hashlib.sha256(code).digest()).decode()
assert got["Configuration"]["CodeSha256"] == digest, got
with urllib.request.urlopen(got["Code"]["Location"]) as f:
    assert f.read() == code, "Code.Location serves other bytes"

answer = client.invoke(FunctionName="boto", Payload=json.dumps({"text": "grüße"}), LogType="Tail")
assert answer["StatusCode"] == 200 and "FunctionError" not in answer, answer
assert json.load(answer["Payload"]) == {"got": {"text": "grüße"}, "mood": "calm"}
assert b"REPORT RequestId:" in base64.b64decode(answer["LogResult"])
context = base64.b64encode(json.dumps({"custom": {"kiln:memory": "512"}}).encode()).decode()
assert client.invoke(FunctionName="boto", ClientContext=context)["StatusCode"] == 200
assert client.invoke(FunctionName="boto", InvocationType="DryRun")["StatusCode"] == 204

client.update_function_configuration(FunctionName="boto", Environment={"Variables": {"MOOD": "bright"}})
client.get_waiter("function_updated_v2").wait(FunctionName="boto", WaiterConfig={"Delay": 1})
assert json.load(client.invoke(FunctionName="boto")["Payload"])["mood"] == "bright"
assert json.load(client.invoke(FunctionName="boto", Qualifier="1")["Payload"])["mood"] == "calm"

for n in range(4):
    client.create_function(FunctionName=f"more-{n}", Runtime="python3.9", Handler="f.handler",
                           Role="arn:aws:iam::000000000000:role/x", Code={"ZipFile": code})
names = [f["FunctionName"] for page in client.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 2}) for f in page["Functions"]]
assert sorted(names) == ["boto", "more-0", "more-1", "more-2", "more-3"], names

try:
    client.get_function(FunctionName="absent")
    raise AssertionError("absent was found")
except client.exceptions.ResourceNotFoundException as e:
    assert e.response["Error"]["Message"] == f"Function not found: arn:aws:lambda:us-east-1:{account}:function:absent", e.response
    assert e.response["ResponseMetadata"]["RequestId"], e.response
try:
    client.create_function(FunctionName="boto", Runtime="python3.9", Handler="f.handler",
                           Role="arn:aws:iam::000000000000:role/x", Code={"ZipFile": code})
    raise AssertionError("created twice")
except client.exceptions.ResourceConflictException:
    pass
try:
    client.invoke(FunctionName="boto", Payload=b"{")
    raise AssertionError("broken JSON was taken")
except client.exceptions.InvalidRequestContentException:
    pass
try:
    client.list_layers()
    raise AssertionError("layers are listed")
except botocore.exceptions.ClientError as e:
    assert e.response["Error"]["Code"] == "UnknownOperationException", e.response
    assert e.response["ResponseMetadata"]["HTTPStatusCode"] == 501 and e.response["ResponseMetadata"]["RetryAttempts"] == 0, e.response

client.create_alias(FunctionName="boto", Name="live", FunctionVersion="1")
assert client.invoke(FunctionName="boto", Qualifier="live")["ExecutedVersion"] == "1"
limits = client.get_account_settings()
assert limits["AccountUsage"]["FunctionCount"] == 5, limits
who = boto3.client("sts", endpoint_url=os.environ["AWS_ENDPOINT_URL"]).get_caller_identity()
assert who["Account"] == account, who
put = client.put_provisioned_concurrency_config(FunctionName="boto", Qualifier="1", ProvisionedConcurrentExecutions=1)
assert put["ResponseMetadata"]["HTTPStatusCode"] == 202 and put["Status"] == "IN_PROGRESS", put
for _ in range(600):
    provisioned = client.get_provisioned_concurrency_config(FunctionName="boto", Qualifier="1")
    if provisioned["Status"] == "READY":
        break
    time.sleep(0.1)
assert provisioned["AvailableProvisionedConcurrentExecutions"] == 1, provisioned
client.delete_provisioned_concurrency_config(FunctionName="boto", Qualifier="1")
try:
    client.get_provisioned_concurrency_config(FunctionName="boto", Qualifier="1")
    raise AssertionError("still provisioned")
except client.exceptions.ProvisionedConcurrencyConfigNotFoundException:
    pass
client.delete_function(FunctionName="boto")
print("boto3: all as expected")
