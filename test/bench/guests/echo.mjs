// Gives the event back; a string "sleep N;" is held for N milliseconds first.
export const handler = async (event) => {
  if (typeof event === 'string' && event.startsWith('sleep ')) {
    await new Promise((wake) => setTimeout(wake, parseFloat(event.slice(6))));
  }
  return event;
};
