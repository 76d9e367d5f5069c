/**
 * The data of each event in a stream of bytes of server-sent events (WHATWG HTML, section 9.2.6). Only `data` is read:
 * comments, names and ids are passed over. An event that the end of the stream cuts off is none.
 */
export async function* events(stream) {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  let left = "";
  let data = [];
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      left += decoder.decode(value, { stream: true });
      const lines = left.split(/\r\n|\n|\r(?!$)/);  // a \r at the end may be half of \r\n
      left = lines.pop();
      for (const line of lines) {
        if (line.startsWith("data:")) data.push(line.slice(line[5] === " " ? 6 : 5));
        else if (line === "" && data.length) { yield data.join("\n"); data = []; }
      }
    }
  } finally {
    reader.cancel().catch(() => {});  // of a stream that has failed already, cancelling fails too
  }
}
