/** The question before another host is asked: whom, what they learn, until when. Nothing is asked there without a yes. */

import { h } from './dom.js';
import { catalogue } from './words.js';

const words = catalogue.models;

/**
 * @param {HTMLElement} root where the question is put
 * @returns {(name: string, hosts: string[]) => Promise<boolean>} whether the person said yes
 */
export function consent(root) {
  const title = h('h2', { id: 'consent-title', text: words.askTitle });
  const what = h('p');
  const list = h('ul', { class: 'hosts' });
  const yes = h('button', { type: 'button', class: 'primary', 'data-testid': 'allow-host', text: words.askYes });
  const no = h('button', { type: 'button', 'data-testid': 'refuse-host', text: words.askNo });
  const dialog = h('dialog', { class: 'sheet', 'data-testid': 'host-consent', 'aria-labelledby': 'consent-title' },
    title, what, list, h('p', { text: words.askLearns }), h('p', { class: 'line', text: words.askStays }), h('div', { class: 'buttons' }, no, yes));
  dialog.addEventListener('keydown', (event) => event.key === 'Escape' && event.stopPropagation()); // it is this that is closed, not the drawer
  root.append(dialog);

  return (name, hosts) => {
    what.textContent = words.askWhat(name);
    list.replaceChildren(...hosts.map((host) => h('li', {}, h('code', { text: host }))));
    const { promise, resolve } = Promise.withResolvers();
    dialog.returnValue = '';
    yes.onclick = () => dialog.close('yes');
    no.onclick = () => dialog.close('');
    dialog.onclose = () => resolve(dialog.returnValue === 'yes');
    dialog.showModal();
    no.focus();
    return promise;
  };
}
