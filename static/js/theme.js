/*
 * The one script that runs before the first paint: it puts the stored theme, density and language on <html>, so that a person who
 * chose another one sees no flash. A classic script on purpose (modules run too late); without it the system's preferences hold.
 */
(() => {
  const root = document.documentElement;
  const stored = (/** @type {string} */ name) => {
    try {
      return JSON.parse(localStorage.getItem(`hybr:${name}`) ?? 'null');
    } catch {
      return null; // no storage, or not ours: the system's preference it is
    }
  };
  const theme = stored('theme');
  if (theme === 'light' || theme === 'dark') root.dataset.theme = theme;
  if (stored('density') === 'compact') root.dataset.density = 'compact';
  const languages = ['en', 'de']; // those of strings.js
  const wanted = [stored('language'), ...navigator.languages.map((name) => name.split('-', 1)[0])];
  root.lang = wanted.find((name) => languages.includes(name)) ?? 'en';
})();
