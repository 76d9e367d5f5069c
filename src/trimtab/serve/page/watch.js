/** Call `look` now and every `every` milliseconds after it is done, but only while the page is seen. */
export const watch = (look, every) => {
  let timer = 0;
  let looking = false;
  const tick = async () => {
    clearTimeout(timer);
    if (document.hidden || looking) return;
    looking = true;
    try {
      await look();
    } finally {
      looking = false;
      timer = setTimeout(tick, every);
    }
  };
  document.addEventListener("visibilitychange", tick);
  return tick();
};
