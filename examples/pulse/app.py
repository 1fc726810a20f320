"""Takes four tenths of a second, so that those who call at once need containers of their own."""

import time


def handler(event, context):
    time.sleep(0.4)
    return {"slept": 0.4}
