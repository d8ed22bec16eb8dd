/** On narrow screens the panel is a drawer: the button opens it, Escape, the scrim or the button close it, and focus goes along. */

/**
 * @param {HTMLElement} panel
 * @param {HTMLButtonElement} toggle
 * @param {HTMLElement} scrim
 * @returns {() => void} opens it where it is a drawer
 */
export function drawer(panel, toggle, scrim) {
  const narrow = matchMedia('(width < 60rem)');
  const isOpen = () => document.body.dataset.panel === 'open';
  const set = (/** @type {boolean} */ open) => {
    if (open === isOpen()) return;
    document.body.dataset.panel = open ? 'open' : 'closed';
    toggle.setAttribute('aria-expanded', String(open));
    if (open) panel.focus();
    else toggle.focus();
  };
  panel.tabIndex = -1;
  toggle.addEventListener('click', () => set(!isOpen()));
  scrim.addEventListener('click', () => set(false));
  document.addEventListener('keydown', (event) => event.key === 'Escape' && isOpen() && set(false));
  narrow.addEventListener('change', () => {
    document.body.dataset.panel = 'closed';
    toggle.setAttribute('aria-expanded', 'false');
  });
  return () => narrow.matches && set(true);
}
