// The real engine worker in that browser.
import './old.js';
import '/js/engine/engine.worker.js';
