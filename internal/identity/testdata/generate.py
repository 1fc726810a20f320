"""Writes botocore.json: requests as botocore signs and sends them. Run with a Python that has botocore."""
import datetime
import json
import sys
import urllib.parse

import botocore
import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

NOON = datetime.datetime(2026, 3, 4, 12, 0, 0, tzinfo=datetime.timezone.utc)
botocore.auth.get_current_datetime = lambda remove_tzinfo=True: NOON.replace(tzinfo=None) if remove_tzinfo else NOON

KEY, SECRET = "AKIABOTOCOREBOTOCORE", "a/secret+of/forty+characters/0123456789A"
TARGETS = [
    "/", "", "/2015-03-31/functions/", "/2015-03-31/functions/f/invocations",
    "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A0%3Afunction%3Af/invocations?Qualifier=%24LATEST",
    "/2017-03-31/tags/arn%3Aaws%3Alambda%3Aus-east-1%3A0%3Afunction%3Af?tagKeys=b&tagKeys=a&tagKeys=a%20b",
    "/a//b/../c/./d?x=1", "/a/b/..", "/~a_b-c.d/%C3%A4/%2F?e=&A=1&a=%C3%A4&a-b=1&a.b=2",
]
HEADERS = {
    "Content-Type": "application/json", "X-Amz-Invocation-Type": "  a   b  ", "X-Amz-Log-Type": "Tail",
    "User-Agent": "not signed", "X-Amzn-Trace-Id": "not signed",
}


def sign(auth, method, target, body, headers, token=None, service="lambda"):
    request = AWSRequest(method=method, url="http://127.0.0.1:4566" + target, headers=headers, data=body)
    auth(Credentials(KEY, SECRET, token), service, "ap-south-1").add_auth(request)
    sent = request.prepare()
    to = urllib.parse.urlsplit(sent.url)
    return {"method": method, "path": to.path or "/", "query": to.query, "host": to.netloc, "body": (sent.body or b"").decode(),
            "fields": [{"name": k, "value": v.decode() if isinstance(v, bytes) else v} for k, v in sent.headers.items()]}


def main():
    out = []
    for auth in (botocore.auth.SigV4Auth, botocore.auth.SigV4QueryAuth):
        for target in TARGETS:
            out.append(sign(auth, "GET", target, b"", {}))
            out.append(sign(auth, "POST", target, b'{"x": 1}', dict(HEADERS), "a/token+with=all"))
    out.append(sign(botocore.auth.SigV4Auth, "POST", "/", b"Action=GetCallerIdentity&Version=2011-06-15",
                    {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}, None, "sts"))
    json.dump({"botocore": botocore.__version__, "id": KEY, "secret": SECRET, "requests": out}, sys.stdout, indent=1)
    print()


main()
