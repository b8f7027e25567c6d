// The controls of the model in the page: they call `ropeLab`, of roformer.js, and write what it computes.
(function () {
  "use strict";
  const SLICE = 25, DRAWN = 240, TEMPERATURE = 0.8; // milliseconds of work at a time; characters that are drawn
  const LIKE = { "’": "'", "‘": "'", "“": "'", "”": "'", "–": "-", "—": "-", "\t": " " };

  // The weights: in the page, as in a notebook, or in a file of their own, as in the book.
  function fetchModel(holder) {
    return new Promise((resolve, reject) => {
      if (!holder.dataset.src) return resolve(JSON.parse(holder.textContent));
      window.ropeLabWeights = resolve; // a page that is opened as a file may load a script, and nothing else
      const script = document.createElement("script");
      script.src = holder.dataset.src;
      script.onerror = () => reject(new Error("the weights could not be loaded"));
      document.head.append(script);
    });
  }

  // Resolves to whether `job` still is the newest, at most every 25 ms, so that the page can be used meanwhile.
  function breather(state) {
    const job = ++state.job;
    let since = performance.now();
    return async () => {
      if (performance.now() - since > SLICE) {
        await new Promise((resolve) => setTimeout(resolve));
        since = performance.now();
      }
      return state.job === job;
    };
  }

  // Read a text: the loss of every character but the first, attention by distance, the cache, and the last logits.
  async function readText(model, ids, switches, goOn) {
    const cache = ropeLab.newCache(model, Math.floor(ids.length / 2)), losses = [], shares = [];
    let logits = null, spent = 0;
    for (let t = 0; t < ids.length; t++) {
      if (logits) losses.push(-ropeLab.logProbabilities(logits)[ids[t]]);
      const start = performance.now(), result = ropeLab.step(model, cache, ids[t], switches);
      spent += performance.now() - start;
      logits = result.logits;
      result.seen.forEach((byDistance, head) => {
        const sums = (shares[head] ||= []);
        byDistance.forEach((share, distance) => { sums[group(distance)] = (sums[group(distance)] || 0) + share; });
      });
      if (!(await goOn())) return null;
    }
    const mean = shares.map((sums) => Array.from(sums, (sum) => (sum || 0) / ids.length));
    return { losses, shares: mean, cache, logits, spent: spent / ids.length };
  }
  const group = (distance) => (distance ? 1 + Math.floor(Math.log2(distance)) : 0); // 0, 1, 2–3, 4–7, …

  function mean(numbers) { return numbers.reduce((a, b) => a + b, 0) / numbers.length; }

  // Random numbers from a seed (mulberry32), so that switches are compared on the same draws.
  function random(seed) {
    return () => {
      seed = (seed + 0x6d2b79f5) | 0;
      let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
  }

  function start(root, holder) {
    const find = (name) => root.querySelector(name), state = { job: 0, seed: 1 };
    const control = (role) => find(`[data-role=${role}]`);
    let model, file;

    function switches() {
      const on = (role) => control(role).checked;
      return {
        base: +control("base").value, scaling: control("scaling").value, factor: +control("factor").value,
        window: +control("window").value || null, other_keys: on("other_keys"), forgotten: on("forgotten"),
        values: on("values"), off: on("off"),
      };
    }

    // The ids of what was typed, and the characters that the model does not know.
    function typed() {
      const text = Array.from(find("textarea").value, (letter) => LIKE[letter] || letter);
      const strange = new Set(text.filter((letter) => !model.vocab.includes(letter)));
      return { ids: text.map((letter) => model.vocab.indexOf(letter)).filter((id) => id >= 0), strange };
    }

    function say(text) { find(".said").textContent = text; }

    function sentence(losses, plain, spent, strange) {
      const within = model.config.context - 1;
      const both = (from, to) => `${mean(losses.slice(from, to)).toFixed(3)} (${mean(plain.slice(from, to)).toFixed(3)})`;
      let text = `Loss in nats per character, in brackets as trained: ${both(0)}`;
      if (losses.length > within) {
        text += `; the first ${within + 1} characters ${both(0, within)}, those after them ${both(within)}`;
      }
      text += `. ${spent.toFixed(1)} ms per character in this browser.`;
      return strange.size ? `${text} Left out, because the model does not know them: ${[...strange].join(" ")}` : text;
    }

    function shade(ids, losses) {
      const spans = ids.map((id, t) => {
        const span = document.createElement("span"), letter = model.vocab[id], loss = t ? losses[t - 1] : 0;
        span.textContent = letter === "\n" ? "⏎\n" : letter;
        span.style.background = `rgba(var(--heat),${Math.min(loss / 10, 0.5).toFixed(3)})`;
        if (t) span.title = `${loss.toFixed(2)} nats`;
        return span;
      });
      find(".read").replaceChildren(...spans);
      const order = losses.map((loss, i) => [loss, i + 1]).sort((a, b) => b[0] - a[0]).slice(0, 5);
      const said = order.map(([loss, t]) => {
        const text = ids.slice(Math.max(0, t - 8), t + 1).map((id) => model.vocab[id]).join("").replace(/\n/g, "⏎");
        return `${text.slice(-1)} in “${text}” (${loss.toFixed(1)})`;
      });
      find(".dear").textContent = `The characters with the largest losses: ${said.join(", ")}.`;
    }

    function heads(shares) {
      const cell = (text, kind = "td") => Object.assign(document.createElement(kind), { textContent: text });
      const most = Math.max(...shares.map((groups) => groups.length)), table = document.createElement("table");
      const name = (g) => (g < 2 ? `${g}` : `${2 ** (g - 1)}–${2 ** g - 1}`);
      table.append(cell("Percent of the attention that goes so many characters back, mean over the verse", "caption"));
      const top = table.createTHead().insertRow();
      top.append(...["block", "head", ...Array.from({ length: most }, (_, g) => name(g))].map((n) => cell(n, "th")));
      [...top.children].forEach((th) => { th.scope = "col"; });
      const body = table.createTBody();
      shares.forEach((groups, i) => {
        const row = body.insertRow(), count = model.config.heads;
        row.append(cell(1 + Math.floor(i / count)), cell(1 + (i % count)));
        for (let g = 0; g < most; g++) {
          const share = groups[g] || 0, td = cell((100 * share).toFixed(0));
          td.style.background = `rgba(var(--share),${(share / 2).toFixed(3)})`;
          row.append(td);
        }
      });
      find(".heads").replaceChildren(table);
    }

    async function run() {
      const goOn = breather(state), { ids, strange } = typed(), chosen = switches();
      for (const role of ["base", "scaling", "factor", "other_keys", "values"]) control(role).disabled = chosen.off;
      root.dataset.state = "running";
      if (ids.length < 2) return say("Type at least two characters that the model knows.");
      const plain = await readText(model, ids, file.rows[0].switches, goOn);
      const result = plain && (await readText(model, ids, chosen, goOn));
      if (!result) return;
      say(sentence(result.losses, plain.losses, result.spent, strange));
      shade(ids, result.losses);
      heads(result.shares);
      const next = random(state.seed), text = find(".text");
      let { logits, cache } = result;
      text.textContent = "";
      for (let i = 0; i < DRAWN; i++) {
        const id = ropeLab.draw(logits, TEMPERATURE, next());
        text.textContent += model.vocab[id];
        logits = ropeLab.step(model, cache, id, chosen).logits;
        if (!(await goOn())) return;
      }
      root.dataset.state = "done";
    }

    // The table of rope_lab, computed once more here.
    async function compare() {
      const goOn = breather(state), ids = Array.from(file.verse, (letter) => model.vocab.indexOf(letter));
      let worst = 0;
      for (const [i, row] of file.rows.entries()) {
        find(".equal").textContent = `${i + 1} of ${file.rows.length} …`;
        const result = await readText(model, ids, row.switches, goOn);
        if (!result) return;
        worst = Math.max(worst, Math.abs(mean(result.losses) - row.losses[0]));
      }
      find(".equal").textContent =
        `The ${file.rows.length} losses of the whole verse, computed in this browser, differ from those of rope_lab ` +
        `by at most ${worst.toExponential(1)} nats per character.`;
      root.dataset.worst = worst;
    }

    async function load() {
      const button = find(".load");
      button.disabled = true;
      try {
        file = await fetchModel(holder);
      } catch (error) {
        button.disabled = false;
        button.textContent = `Try again: ${error.message}`;
        return;
      }
      model = ropeLab.read(file);
      find(".live").hidden = false;
      button.parentNode.hidden = true;
      find("textarea").focus();
      Object.assign(root, { model, file, switches });
      let wait;
      find("textarea").addEventListener("input", () => { clearTimeout(wait); wait = setTimeout(run, 300); });
      find("fieldset").addEventListener("input", run);
      find(".again").addEventListener("click", () => { state.seed += 1; run(); });
      find(".compare").addEventListener("click", compare);
      run();
    }

    find(".without").hidden = true;
    find(".load").hidden = false;
    find(".load").addEventListener("click", load);
  }

  document.querySelectorAll(".rope-broken[data-fresh]").forEach((root) => {
    root.removeAttribute("data-fresh");
    start(root, root.parentNode.querySelector(".rope-weights"));
  });
})();
