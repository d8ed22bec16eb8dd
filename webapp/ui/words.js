/** The views' words, out of the page's one catalogue (static/js/words), and figures for people in the page's language. */

import { catalogue } from '../strings.js';

export { average, bytes, duration, number } from '../figures.js';

export { catalogue };
export const words = catalogue.views;
