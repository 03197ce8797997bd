// The jobs of the queue, as the server tells them.

import {stream} from "./common.js";

const listeners = new Set();
const jobs = new Map();
let open = false;

/**
 * Hear of jobs: of all at first, and then of those that change.
 * @param {(changed: Object[], removed: number|null) => void} listener
 */
export function watch(listener) {
  listeners.add(listener);
  listener([...jobs.values()], null);
  if (open) return;
  open = true;
  stream("/api/jobs", ({jobs: changed, removed, all}) => {
    const gone = all ? [...jobs.keys()].filter(number => changed.every(job => job.number !== number)) : [removed];
    for (const job of changed) jobs.set(job.number, job);
    for (const each of listeners) each(changed, null);
    for (const number of gone) {
      jobs.delete(number);
      for (const each of listeners) each([], number);
    }
  });
}

/** How many jobs are not done. */
export const countOpen = () => [...jobs.values()].filter(({state}) => state === "waiting" || state === "running").length;

/** Wait until a job is done: its files. Throws an Error with its sentence if it isn't. */
export function finished(number, onProgress) {
  return new Promise((resolve, reject) => {
    const listener = (changed, removed) => {
      const job = changed.find(each => each.number === number);
      if (job?.state === "running") onProgress(job);
      const [text, ends] = job ? [job.text, ["done", "failed", "paused"].includes(job.state)] : ["it was removed", removed === number];
      if (!ends) return;
      listeners.delete(listener);
      if (job?.state === "done") resolve(job.files);
      else reject(new Error(text || "it was paused: continue it in the queue"));
    };
    watch(listener);
  });
}
