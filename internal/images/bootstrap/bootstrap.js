// Kiln's bootstrap for Node.js: what AWS's runtime interface client does, prepared before the code is known.
//
// The interpreter starts and asks GET /kiln/binding. The answer names the environment and the handler; from there on it is
// Lambda's Node.js: the handler's module is loaded and served one event after another. Texts, error names and log lines
// are AWS's. An answer and the request for the next event leave in one write: the node holds the answer's 202 back until
// then, which saves both sides a turn. While a handler runs the connection does not keep the event loop alive, so that
// an empty loop can be told.
//
// A version that declares several executions at once (AWS_LAMBDA_MAX_CONCURRENCY) has a connection for each, and their
// handlers take turns in the one event loop.
'use strict';

const net = require('net');
const fs = require('fs');
const path = require('path');
const util = require('util');

const PREFIX = '/2018-06-01/runtime/';
const NEXT = `GET ${PREFIX}invocation/next HTTP/1.1\r\nHost: kiln\r\n\r\n`;
const STREAMING = Symbol.for('aws.lambda.runtime.handler.streaming');
const HTTP_STREAM = 'application/vnd.awslambda.http-integration-response';

// ---- the link

// connect opens a link: a connection that has one request under way at a time. respond takes the next response.
//
// What is read lands in one buffer that is used again: a stream's own buffering costs as much as all else here.
function connect(api, respond) {
  const at = api.lastIndexOf(':');
  const link = {
    respond,
    socket: null,
    rest: null, // bytes read and not yet used
    read: null, // takes what was read; the bytes are the buffer's, and overwritten by the next read
    current: null, // the invocation that runs
  };
  link.read = (chunk) => take(link, chunk);
  link.socket = net.connect({
    host: api.slice(0, at), port: Number(api.slice(at + 1)), noDelay: true,
    onread: {
      buffer: Buffer.allocUnsafe(65536),
      callback: (size, buffer) => { link.read(buffer.subarray(0, size)); return true; },
    },
  });
  link.socket.on('end', () => process.exit(0));
  link.socket.on('error', () => process.exit(1));
  return link;
}

function take(link, chunk) {
  let bytes = link.rest === null ? chunk : Buffer.concat([link.rest, chunk]);
  link.rest = null;
  while (bytes !== null) {
    const end = bytes.indexOf('\r\n\r\n');
    if (end < 0) break;
    const lines = bytes.toString('utf8', 0, end).split('\r\n');
    const headers = {};
    for (let i = 1; i < lines.length; i++) {
      const colon = lines[i].indexOf(':');
      headers[lines[i].slice(0, colon).toLowerCase()] = lines[i].slice(colon + 2);
    }
    const length = Number(headers['content-length'] || 0);
    const stop = end + 4 + length;
    if (bytes.length < stop) {
      if (length > 65536) {
        gather(link, Buffer.from(bytes), stop);
        return;
      }
      break;
    }
    const body = bytes.toString('utf8', end + 4, stop);
    bytes = bytes.length > stop ? bytes.subarray(stop) : null;
    link.respond(Number(lines[0].slice(9, 12)), headers, body);
  }
  if (bytes !== null) link.rest = Buffer.from(bytes);
}

// gather collects a large body without joining at every piece.
function gather(link, first, want) {
  const pieces = [first];
  let have = first.length;
  const before = link.read;
  link.read = (chunk) => {
    pieces.push(Buffer.from(chunk));
    have += chunk.length;
    if (have < want) return;
    link.read = before;
    take(link, Buffer.concat(pieces));
  };
}

function post(link, where, body, headers = '', then = '', done = undefined) {
  const size = typeof body === 'string' ? Buffer.byteLength(body) : body.length;
  const head = `POST ${PREFIX}${where} HTTP/1.1\r\nHost: kiln\r\n${headers}Content-Length: ${size}\r\n\r\n`;
  if (typeof body === 'string') {
    link.socket.write(head + body + then, done);
  } else {
    link.socket.write(Buffer.concat([Buffer.from(head), body, Buffer.from(then)]), done);
  }
}

const JSON_TYPE = 'Content-Type: application/json\r\n';

// ---- what is written

let lastId; // of the request that came last
let store = null; // with several executions at once, tells code that runs which it belongs to

// mark begins each line with the request it is of, between two separators: the node takes that off.
function mark(text, id) {
  return text.replace(/^(?=[^])/gm, `\x1e${id}\x1e`);
}

function printAll(text) {
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length;) {
    try {
      at += fs.writeSync(1, bytes, at);
    } catch (e) {
      if (e.code !== 'EAGAIN') return;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
    }
  }
}

const LEVELS = { TRACE: 1, DEBUG: 2, INFO: 3, WARN: 4, ERROR: 5, FATAL: 6 };

function setUpConsole() {
  const least = LEVELS[process.env.AWS_LAMBDA_LOG_LEVEL] || 0;
  const json = process.env.AWS_LAMBDA_LOG_FORMAT === 'JSON';
  const write = (level) => (...args) => {
    if (LEVELS[level] < least) return;
    const about = store === null ? undefined : store.getStore();
    const requestId = about === undefined ? lastId : about.id;
    const print = (text) => printAll(about === undefined ? text : mark(text, about.id));
    const timestamp = new Date().toISOString();
    if (!json) {
      print(`${timestamp}\t${requestId}\t${level}\t${util.format(...args)}\n`);
      return;
    }
    const line = { timestamp, level, requestId };
    if (args.length === 1 && args[0] instanceof Error) {
      Object.assign(line, { errorType: args[0].name, errorMessage: args[0].message, stackTrace: String(args[0].stack).split('\n') });
    } else {
      line.message = args.length === 1 && typeof args[0] === 'object' ? args[0] : util.format(...args);
    }
    try {
      print(JSON.stringify(line) + '\n');
    } catch {
      line.message = util.format(...args);
      print(JSON.stringify(line) + '\n');
    }
  };
  console.trace = write('TRACE');
  console.debug = write('DEBUG');
  console.info = console.log = write('INFO');
  console.warn = write('WARN');
  console.error = write('ERROR');
  console.fatal = write('FATAL');
}

// ---- errors

class Fault extends Error {
  constructor(kind, message, cause) {
    super(message);
    this.name = kind;
    if (cause && cause.stack) this.stack = cause.stack;
  }
}

function isError(e) {
  return util.types.isNativeError(e) || Boolean(e && e.name && e.message && e.stack);
}

function told(e) {
  if (!isError(e)) {
    return { errorType: typeof e, errorMessage: String(e), trace: [] };
  }
  return { errorType: String(e.name), errorMessage: String(e.message), trace: String(e.stack || '').split('\n') };
}

function logged(e) {
  if (!isError(e)) return '\t' + JSON.stringify(told(e));
  const t = told(e);
  let all = { errorType: t.errorType, errorMessage: t.errorMessage, ...e, stack: t.trace };
  if (e instanceof Fault) all = { errorType: t.errorType, errorMessage: t.errorMessage, stack: t.trace };
  try {
    return '\t' + JSON.stringify(all);
  } catch {
    return '\t' + JSON.stringify(t);
  }
}

function typeHeader(e) {
  return `${JSON_TYPE}Lambda-Runtime-Function-Error-Type: ${told(e).errorType.replace(/[^\x20-\x7e]/g, '?')}\r\n`;
}

// ---- the handler

function malformed(text) {
  return new Fault('Runtime.MalformedHandlerName', text);
}

async function load(root, full) {
  if (full.includes('..')) {
    throw malformed(`'${full}' is not a valid handler name. Use absolute paths when specifying root directories in handler names.`);
  }
  const base = path.basename(full);
  const folder = full.slice(0, full.lastIndexOf(base));
  const m = /^([^.]*)\.(.*)$/.exec(base);
  if (!m || m[2] === '') throw malformed('Bad handler');
  let mod;
  try {
    mod = await open(path.resolve(root, folder, m[1]), m[1], root, folder);
  } catch (e) {
    if (e instanceof SyntaxError) throw new Fault('Runtime.UserCodeSyntaxError', e.toString(), e);
    if (e && (e.code === 'MODULE_NOT_FOUND' || e.code === 'ERR_MODULE_NOT_FOUND')) {
      throw new Fault('Runtime.ImportModuleError', e.toString(), e);
    }
    throw e;
  }
  let handler = mod;
  for (const name of m[2].split('.')) handler = handler && handler[name];
  if (handler === undefined && mod && mod.default) {
    handler = mod.default;
    for (const name of m[2].split('.')) handler = handler && handler[name];
  }
  if (handler === undefined || handler === null) {
    throw new Fault('Runtime.HandlerNotFound', `${full} is undefined or not exported`);
  }
  if (typeof handler !== 'function') throw new Fault('Runtime.HandlerNotFound', `${full} is not a function`);
  const mode = handler[STREAMING];
  if (mode !== undefined && mode !== 'response') {
    throw new Fault('Runtime.MalformedStreamingHandler', 'Only response streaming is supported.');
  }
  return handler;
}

function isFile(file) {
  try {
    return fs.statSync(file).isFile();
  } catch {
    return false;
  }
}

// isModule says whether a .js file belongs to a package of type module.
function isModule(file) {
  for (let dir = path.dirname(file); ; dir = path.dirname(dir)) {
    try {
      return JSON.parse(fs.readFileSync(path.join(dir, 'package.json'), 'utf8')).type === 'module';
    } catch (e) {
      if (e instanceof SyntaxError) return false;
    }
    if (dir === path.dirname(dir) || path.basename(dir) === 'node_modules') return false;
  }
}

async function open(file, name, root, folder) {
  const esm = (f) => import(require('url').pathToFileURL(f).href);
  for (const f of [file, file + '.js']) {
    if (isFile(f)) return isModule(f) ? esm(f) : require(f);
  }
  if (isFile(file + '.mjs')) return esm(file + '.mjs');
  if (isFile(file + '.cjs')) return require(file + '.cjs');
  const found = require.resolve(name, { paths: [root, path.join(root, folder)] });
  return found.endsWith('.mjs') || (found.endsWith('.js') && isModule(found)) ? esm(found) : require(found);
}

function provideStreaming() {
  globalThis.awslambda = {
    streamifyResponse(handler, options) {
      handler[STREAMING] = 'response';
      if (options && options.highWaterMark) handler[Symbol.for('aws.lambda.runtime.handler.streaming.highWaterMark')] = Number(options.highWaterMark);
      return handler;
    },
    HttpResponseStream: {
      from(stream, prelude) {
        stream.setContentType(HTTP_STREAM);
        stream.write(JSON.stringify(prelude));
        stream.write(Buffer.alloc(8));
        return stream;
      },
    },
  };
}

// responseStream is what a streaming handler writes to: kept here, and sent when it ends.
function responseStream(finish) {
  const { Writable } = require('stream');
  const pieces = [];
  const s = new Writable({
    write(chunk, encoding, done) {
      pieces.push(Buffer.isBuffer(chunk) ? chunk : Buffer.from(chunk, encoding));
      done();
    },
    final(done) {
      done();
      finish(Buffer.concat(pieces), s._contentType);
    },
  });
  const write = s.write;
  s.write = (chunk, encoding, done) => {
    if (typeof chunk !== 'string' && !Buffer.isBuffer(chunk) && !(chunk instanceof Uint8Array)) chunk = JSON.stringify(chunk);
    return write.call(s, chunk, encoding, done);
  };
  s._contentType = 'application/octet-stream';
  s.setContentType = (type) => { s._contentType = String(type); };
  return s;
}

// ---- the loop

let handler;
let links = []; // one, or one for each execution at once

// fixed is what of every context is the same; the environment is slow to ask.
let fixed;

function contextOf(headers, invocation) {
  const deadline = Number(headers['lambda-runtime-deadline-ms']);
  const parsed = (name) => (headers[name] ? JSON.parse(headers[name]) : undefined);
  const waits = { yes: true };
  const done = (error, result) => {
    waits.yes = false;
    invocation.callback(error, result);
  };
  invocation.waits = waits;
  return {
    get callbackWaitsForEmptyEventLoop() { return waits.yes; },
    set callbackWaitsForEmptyEventLoop(yes) { waits.yes = yes; },
    done,
    succeed: (result) => done(null, result),
    fail: (error) => done(error === undefined || error === null ? 'handled' : error),
    functionVersion: fixed.functionVersion,
    functionName: fixed.functionName,
    memoryLimitInMB: fixed.memoryLimitInMB,
    logGroupName: fixed.logGroupName,
    logStreamName: fixed.logStreamName,
    clientContext: parsed('lambda-runtime-client-context'),
    identity: parsed('lambda-runtime-cognito-identity'),
    invokedFunctionArn: headers['lambda-runtime-invoked-function-arn'],
    awsRequestId: headers['lambda-runtime-aws-request-id'],
    getRemainingTimeInMillis: () => deadline - Date.now(),
  };
}

function serialize(result) {
  let text;
  try {
    text = JSON.stringify(result);
  } catch {
    throw new Error('Unable to stringify response body');
  }
  return text === undefined ? 'null' : text;
}

// end answers the invocation, once, and asks for the next event in the same write.
function end(invocation, where, body, headers) {
  const link = invocation.link;
  if (link.current !== invocation) return;
  link.current = null;
  link.socket.ref();
  post(link, `invocation/${invocation.id}/${where}`, body, headers, NEXT);
}

function fail(invocation, error) {
  if (invocation.link.current !== invocation) return;
  console.error('Invoke Error', logged(error));
  end(invocation, 'error', JSON.stringify(told(error)), typeHeader(error));
}

function succeed(invocation, result) {
  if (invocation.link.current !== invocation) return;
  let body;
  try {
    body = serialize(result);
  } catch (e) {
    fail(invocation, e);
    return;
  }
  end(invocation, 'response', body, JSON_TYPE);
}

function invoke(link, headers, body) {
  const requestId = headers['lambda-runtime-aws-request-id'];
  lastId = requestId;
  const trace = headers['lambda-runtime-trace-id'];
  const invocation = { id: requestId, link, settled: false, empty: null, waits: null, callback: null };
  link.current = invocation;
  if (store !== null) {
    store.run({ id: requestId, values: { [KEYS.REQUEST_ID]: requestId, [KEYS.X_RAY_TRACE_ID]: trace } }, run, invocation, headers, body);
    return;
  }
  if (trace) process.env._X_AMZN_TRACE_ID = trace;
  else delete process.env._X_AMZN_TRACE_ID;
  link.socket.unref();
  run(invocation, headers, body);
}

function run(invocation, headers, body) {
  // An empty event loop without an answer is an answer of null, unless the callback left one to be given then.
  invocation.empty = () => succeed(invocation, null);
  invocation.callback = (error, result) => {
    if (invocation.settled) return;
    invocation.settled = true;
    const give = error !== undefined && error !== null ? () => fail(invocation, error) : () => succeed(invocation, result);
    if (invocation.waits.yes && store === null) invocation.empty = give;
    else give();
  };
  try {
    const context = contextOf(headers, invocation);
    const event = JSON.parse(body);
    if (handler[STREAMING]) {
      const stream = responseStream((bytes, type) =>
        end(invocation, 'response', bytes, `Content-Type: ${type.replace(/[^\x20-\x7e]/g, '')}\r\nLambda-Runtime-Function-Response-Mode: streaming\r\n`));
      stream.on('error', (e) => fail(invocation, e));
      const result = handler(event, stream, context);
      if (!result || typeof result.then !== 'function') throw new Fault('Runtime.MalformedStreamingHandler', 'Streaming does not support non-async handlers.');
      result.then(() => { if (!stream.writableEnded) stream.end(); }, (e) => fail(invocation, e));
      return;
    }
    const result = handler(event, context, invocation.callback);
    if (result && typeof result.then === 'function') result.then(context.succeed, (e) => fail(invocation, e));
  } catch (e) {
    fail(invocation, e);
  }
}

// die reports what ends this process, where somebody waits for it, and ends it.
let dying = false;
function die(error, text, code) {
  if (dying) return;
  dying = true;
  console.error(text, logged(error));
  const leave = () => process.exit(code);
  setTimeout(leave, 1000);
  const ending = links.filter((link) => link.current);
  if (ending.length === 0 && handler === undefined) {
    const link = links[0];
    link.socket.ref();
    link.respond = leave;
    post(link, 'init/error', JSON.stringify(told(error)), typeHeader(error));
    return;
  }
  let left = ending.length; // what ends the process ends all that run in it
  if (left === 0) leave();
  for (const link of ending) {
    link.socket.ref();
    link.respond = () => { if (--left === 0) leave(); };
    post(link, `invocation/${link.current.id}/error`, JSON.stringify(told(error)), typeHeader(error));
  }
}

// What AWS's library of that name (@aws/lambda-invoke-store) looks for, where several executions run at once.
const KEYS = {
  REQUEST_ID: Symbol.for('_AWS_LAMBDA_REQUEST_ID'),
  X_RAY_TRACE_ID: Symbol.for('_AWS_LAMBDA_X_RAY_TRACE_ID'),
  TENANT_ID: Symbol.for('_AWS_LAMBDA_TENANT_ID'),
};

function provideStore() {
  const { AsyncLocalStorage } = require('async_hooks');
  store = new AsyncLocalStorage();
  const values = () => { const about = store.getStore(); return about && about.values; };
  const get = (key) => { const v = values(); return v && v[key]; };
  globalThis.awslambda.InvokeStore = {
    get,
    run: (context, f) => store.run({ id: context[KEYS.REQUEST_ID] || lastId, values: context }, f),
    getContext: values,
    hasContext: () => values() !== undefined,
    set(key, value) {
      if (Object.values(KEYS).includes(key)) throw new Error(`Cannot modify protected Lambda context field: ${String(key)}`);
      const v = values();
      if (v === undefined) throw new Error('No context available');
      v[key] = value;
    },
    getRequestId: () => get(KEYS.REQUEST_ID) || '-',
    getXRayTraceId: () => get(KEYS.X_RAY_TRACE_ID),
    getTenantId: () => get(KEYS.TENANT_ID),
  };
}

function become(binding) {
  const api = process.env.AWS_LAMBDA_RUNTIME_API;
  for (const k of Object.keys(process.env)) if (!(k in binding.env)) delete process.env[k];
  Object.assign(process.env, binding.env, { AWS_LAMBDA_RUNTIME_API: api });
  if (!process.env.NODE_PATH) {
    const major = process.versions.node.split('.')[0];
    process.env.NODE_PATH = `/opt/nodejs/node${major}/node_modules:/opt/nodejs/node_modules:/var/runtime/node_modules`;
  }
  require('module')._initPaths();
  fixed = {
    functionVersion: process.env.AWS_LAMBDA_FUNCTION_VERSION,
    functionName: process.env.AWS_LAMBDA_FUNCTION_NAME,
    memoryLimitInMB: process.env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    logGroupName: process.env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: process.env.AWS_LAMBDA_LOG_STREAM_NAME,
  };
  const root = process.env.LAMBDA_TASK_ROOT || '/var/task';
  try {
    process.chdir(root);
  } catch {
    // a package that cannot be entered still runs from where we are
  }
  setUpConsole();
  provideStreaming();
  const slots = Number(process.env.AWS_LAMBDA_MAX_CONCURRENCY) || 1;
  if (slots > 1) provideStore();
  process.on('uncaughtException', (e) => die(e, 'Uncaught Exception ', 129));
  process.on('unhandledRejection', (reason) => {
    const e = new Fault('Runtime.UnhandledPromiseRejection', isError(reason) ? reason.toString() : String(reason), reason);
    e.reason = reason;
    die(e, 'Unhandled Promise Rejection ', 128);
  });
  process.on('beforeExit', () => {
    const current = links[0].current; // of several, none lets the loop be empty
    if (current) current.empty();
    else if (handler === undefined) die(new Fault('Runtime.NodeJsExit', 'The Lambda runtime client detected an unexpected Node.js exit code.'), 'Init Error ', 13);
  });
  links[0].socket.unref(); // while the module loads, so that one that never finishes is told
  load(root, binding.handler).then((h) => {
    if (dying) return;
    handler = h;
    links[0].socket.ref();
    while (links.length < slots) links.push(connect(api, null));
    for (const link of links) {
      link.respond = (status, headers, body) => { if (status === 200) invoke(link, headers, body); };
      link.socket.write(NEXT);
    }
  }, (e) => die(e, 'Init Error ', 1));
}

links.push(connect(process.env.AWS_LAMBDA_RUNTIME_API, (status, headers, body) => {
  if (status !== 200) process.exit(1);
  become(JSON.parse(body));
}));
links[0].socket.write('GET /kiln/binding HTTP/1.1\r\nHost: kiln\r\n\r\n');
