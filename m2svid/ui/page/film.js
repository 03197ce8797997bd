// A film that is played: one or two videos that keep together, and a bar of controls.

import {clock, el, nameOf} from "./common.js";

const APART = 0.008; // s, by which frames of two videos may differ to be one picture: below half a frame at 60 Hz
const LOST = 0.2; // s, from which the second video is moved after the first
const PATIENCE = 12; // frames, after which two videos are shown as they are

export class Film {
  #ends = new AbortController(); #times = []; #apart = 0;

  /**
   * @param {string} src - of the picture with both views, or of the right view.
   * @param {string|null} left - of the left view, if it is another film.
   * @param {() => void} onFrame - called when there is another frame to be drawn.
   */
  constructor(src, left, onFrame) {
    this.videos = [src, left].filter(Boolean).map(address => el("video", {playsinline: true, preload: "auto", src: address}));
    [this.main, this.second] = this.videos;
    this.videos.forEach((video, number) => this.#follow(video, number, onFrame));
    if (!this.second) return;
    this.second.muted = true;
    this.listen("play", () => this.second.play().catch(() => {}));
    this.listen("pause", () => this.second.pause());
    this.listen("seeking", () => { this.second.currentTime = this.main.currentTime; });
  }

  /** Listen to the main video until the film is closed. */
  listen(name, listener) {
    this.main.addEventListener(name, listener, {signal: this.#ends.signal});
  }

  /** @throws Error with one sentence if a video can't be shown. */
  async open(codec) {
    await Promise.all(this.videos.map(video => loaded(video, codec)));
  }

  toggle() {
    if (this.main.paused) this.main.play().catch(() => {}); // it has been stopped or closed meanwhile
    else this.main.pause();
  }

  /** Go to a time, s, within the film. */
  seek(time) {
    this.main.currentTime = Math.min(Math.max(time, 0), this.main.duration);
  }

  close() {
    this.#ends.abort();
    for (const video of this.videos) {
      video.pause();
      video.removeAttribute("src");
      video.load();
    }
  }

  #follow(video, number, onFrame) {
    const heard = (_, {mediaTime}) => {
      if (this.#ends.signal.aborted) return;
      this.#times[number] = mediaTime;
      if (this.#together()) onFrame();
      video.requestVideoFrameCallback(heard);
    };
    video.requestVideoFrameCallback(heard);
  }

  #together() {
    if (!this.second) return true;
    const [main, second] = this.#times;
    const apart = Math.abs(main - second);
    if (apart > LOST && !this.second.seeking) this.second.currentTime = this.main.currentTime;
    this.#apart = apart < APART ? 0 : this.#apart + 1;
    return this.#apart === 0 || this.#apart > PATIENCE;
  }
}

async function loaded(video, codec) {
  await new Promise(resolve => {
    for (const name of ["loadeddata", "error"]) video.addEventListener(name, resolve, {once: true});
  });
  if (!video.error && video.videoWidth > 0) return;
  const name = nameOf(decodeURIComponent(video.src));
  const answer = await fetch(video.src, {headers: {Range: "bytes=0-0"}}).catch(() => null);
  if (!answer?.ok) throw new Error(`${name} can't be loaded: ${answer ? `the server says ${answer.status}` : "the server does not answer"}.`);
  throw new Error(
    `This browser can't decode ${name}${codec ? `, which is ${codec}` : ""}: ` +
    "open it in another player, or convert it with --codec h264, which every browser plays.");
}

/** Play, time, seek, sound for a film. */
export function controls(film) {
  const {main} = film;
  const play = el("button", {type: "button", class: "player-play", onclick: () => film.toggle()}, "Play");
  const time = el("span", {class: "player-time"});
  const seek = el("input", {type: "range", class: "player-seek", min: 0, step: 0.01, value: 0, "aria-label": "Time", oninput: () => film.seek(seek.valueAsNumber)});
  const mute = el("button", {type: "button", class: "player-mute", "aria-pressed": "false", onclick: () => { main.muted = !main.muted; }}, "Mute");
  const volume = el("input", {type: "range", class: "player-volume", min: 0, max: 1, step: 0.05, value: 1, "aria-label": "Volume", oninput: () => { main.volume = volume.valueAsNumber; }});
  const tell = () => {
    play.textContent = main.paused ? "Play" : "Pause";
    mute.setAttribute("aria-pressed", main.muted);
    volume.value = main.volume;
    const [now, all] = [main.currentTime, main.duration || 0].map(seconds => clock(seconds));
    time.textContent = `${now} / ${all}`;
    seek.max = main.duration || 0;
    if (!main.seeking) seek.value = main.currentTime;
    seek.setAttribute("aria-valuetext", `${now} of ${all}`);
  };
  for (const name of ["loadedmetadata", "play", "pause", "timeupdate", "seeked", "volumechange", "ended"]) film.listen(name, tell);
  tell();
  return el("div", {class: "player-film", role: "group", "aria-label": "Film"}, play, seek, time, mute, volume);
}
