/*
 * The one script that runs before the first paint: it puts the stored theme on <html>, so that a person who chose the other
 * one sees no flash. A classic script on purpose (modules run too late); without it the system's preference holds.
 */
(() => {
  try {
    const theme = JSON.parse(localStorage.getItem('hybr:theme') ?? 'null');
    if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
  } catch {
    // No storage, or not ours: the system's preference it is.
  }
})();
