/**
 * What any script may name as soon as the page's HTML has been read: `ModuleLoader`, whose modules come when the core is up, and
 * `EventBus`. It stands apart from the shell, which first waits for the words of the person's language.
 */

import { EventBus } from './events.js';
import { ModuleLoader } from './modules.js';

export const events = new EventBus();
export const modules = new ModuleLoader();

Object.assign(globalThis, { ModuleLoader: modules, EventBus: events });
