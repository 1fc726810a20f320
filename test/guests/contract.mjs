// contract.mjs shows AWS's contract with Node.js functions: what a handler is given and what becomes of what it does.
class Custom extends Error {
  constructor(message) {
    super(message);
    this.name = "Custom";
  }
}

export const handler = async (event, context) => {
  switch (event.do) {
    case "throw":
      throw new Custom("it broke");
    case "throw-string":
      throw "a plain string";
    case "exit":
      process.exit(event.status ?? 0);
    case "unhandled":
      Promise.reject(new Custom("nobody caught it"));
      await new Promise((resolve) => setTimeout(resolve, 2000));
      return "not reached";
    case "undefined":
      return undefined;
    case "log":
      console.log("printed line");
      console.error("to stderr");
      return "logged";
    case "context":
      return {
        request: context.awsRequestId, function: context.functionName, version: context.functionVersion,
        arn: context.invokedFunctionArn, memory: context.memoryLimitInMB, group: context.logGroupName,
        stream: context.logStreamName, remaining: context.getRemainingTimeInMillis(),
        custom: context.clientContext?.custom ?? context.clientContext?.Custom ?? null,
      };
    default:
      return { ok: true, node: process.versions.node, event };
  }
};

export const callback = (event, context, done) => {
  if (event.fail) return done(new Custom("by callback"));
  if (event.open) {
    // Something that stays open: with callbackWaitsForEmptyEventLoop off, the answer must not wait for it.
    context.callbackWaitsForEmptyEventLoop = false;
    setInterval(() => {}, 1000);
  }
  done(null, { by: "callback", event });
};
