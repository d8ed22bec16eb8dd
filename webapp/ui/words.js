/** The views' words, out of the page's one catalogue (static/js/words), and figures for people in the page's language. */

import { catalogue, sayError, sayReason } from '../strings.js';

export { average, bytes, duration, money, number } from '../figures.js';

export { catalogue, sayError, sayReason };
export const words = catalogue.views;
