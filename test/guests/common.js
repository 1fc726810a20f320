// common.js is a CommonJS module with a synchronous handler that returns a promise.
exports.handler = (event) => Promise.resolve({ module: typeof module, event });
