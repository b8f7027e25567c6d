// A RoFormer in plain JavaScript: the twin of rope_lab's model of chapter 13, for one
// token at a time with a cache.
//
// Numbers are float64 throughout; the weights were rounded to float16 for the way here.
// A vector is a Float64Array, and a matrix of shape (rows, columns) is one too, row
// after row.
(function () {
  "use strict";
  const EPS = 2 ** -23; // added under the root of every norm

  // ── the weights ──────────────────────────────────────────────────────────────────

  // The number in a float16: a sign, 5 bits of exponent, 10 bits of fraction.
  function half(bits) {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 31, fraction = (bits & 1023) / 1024;
    const size = exponent ? 2 ** (exponent - 15) * (1 + fraction) : 2 ** -14 * fraction;
    return sign * size;
  }

  // The model in what rope_lab.figures.in_the_page.export wrote: its config, its
  // vocabulary, and each tensor by name.
  function read(file) {
    const text = atob(file.weights), weights = {};
    let at = 0;
    for (const [name, ...shape] of file.tensors) {
      const tensor = new Float64Array(shape.reduce((a, b) => a * b, 1));
      for (let i = 0; i < tensor.length; i++, at += 2) {
        tensor[i] = half(text.charCodeAt(at) | (text.charCodeAt(at + 1) << 8));
      }
      weights[name] = tensor;
    }
    return { config: file.config, vocab: file.vocab, weights };
  }

  // ── the rotation ─────────────────────────────────────────────────────────────────

  // θ_i = base^(−2i/dim), radians per position.
  function frequencies(dim, base) {
    return Float64Array.from({ length: dim / 2 }, (_, i) => base ** ((-2 * i) / dim));
  }

  // The frequencies after a scaling, and the factor that multiplies cosine and sine.
  function scaled(freqs, { scaling, factor }, context) {
    const last = freqs.length - 1, log = 0.1 * Math.log(factor) + 1;
    if (scaling === "linear") return { freqs: freqs.map((f) => f / factor), factor: 1 };
    if (scaling === "ntk") {
      return { freqs: freqs.map((f, i) => f * factor ** (-i / last)), factor: 1 };
    }
    if (scaling === "yarn factor") return { freqs, factor: log };
    if (scaling === "none") return { freqs, factor: 1 };
    // YaRN: pairs with more than 32 turns in the context stay the same, pairs with
    // fewer than 1 are interpolated, and a ramp over the pairs joins them.
    const ratio = Math.log(freqs[0] / freqs[1]);
    // the pair that turns so many times
    const pair = (turns) => Math.log(context / (turns * 2 * Math.PI)) / ratio;
    const within = (end) => Math.min(Math.max(end, 0), 2 * freqs.length - 1);
    const low = within(Math.floor(pair(32)));
    let high = within(Math.ceil(pair(1)));
    if (low === high) high += 0.001;
    const ramp = (i) => Math.min(Math.max((i - low) / (high - low), 0), 1);
    return {
      freqs: freqs.map((f, i) => f * (1 - ramp(i)) + (f / factor) * ramp(i)),
      factor: scaling === "yarn" ? log : 1,
    };
  }

  // Turn the pairs of the head that begins at x[start] by position · θ_i.
  function turn(x, start, position, freqs, layout, factor = 1) {
    const pairs = freqs.length;
    for (let i = 0; i < pairs; i++) {
      const a = start + (layout === "half" ? i : 2 * i);
      const b = a + (layout === "half" ? pairs : 1);
      const angle = position * freqs[i];
      const cos = factor * Math.cos(angle), sin = factor * Math.sin(angle);
      [x[a], x[b]] = [x[a] * cos - x[b] * sin, x[a] * sin + x[b] * cos];
    }
  }

  // ── the model ────────────────────────────────────────────────────────────────────

  // The matrix times x.
  function times(matrix, x) {
    const result = new Float64Array(matrix.length / x.length);
    for (let row = 0, at = 0; row < result.length; row++) {
      let sum = 0;
      for (let i = 0; i < x.length; i++, at++) sum += matrix[at] * x[i];
      result[row] = sum;
    }
    return result;
  }

  // x divided by its root mean square, times a weight per coordinate or one number.
  function norm(x, weight) {
    let squares = 0;
    for (const value of x) squares += value * value;
    const inverse = 1 / Math.sqrt(squares / x.length + EPS);
    const one = typeof weight === "number";
    return x.map((value, i) => value * inverse * (one ? weight : weight[i]));
  }

  function softmax(scores) {
    const most = Math.max(...scores);
    const powers = scores.map((score) => Math.exp(score - most));
    const sum = powers.reduce((a, b) => a + b, 0);
    return powers.map((power) => power / sum);
  }

  // Keys and values of the tokens so far, for each block. The first `prompt` tokens
  // count as read at once.
  function newCache(model, prompt) {
    const blocks = { length: model.config.depth };
    const empty = () => ({ keys: [], values: [] });
    return { prompt, length: 0, blocks: Array.from(blocks, empty) };
  }

  // What the heads of one block read for a token at `position`, side by side; their
  // attention weights are appended to `seen`.
  function attend(model, name, x, held, position, switches, seen) {
    const { dim, heads, layout, context } = model.config, size = dim / heads;
    const weights = model.weights;
    const project = (which) => times(weights[`${name}.attention.${which}.weight`], x);
    const q = project("query"), k = project("key"), v = project("value");
    const plain = frequencies(size, switches.base);
    const { freqs, factor } = scaled(plain, switches, context);
    const other = layout === "half" ? "interleaved" : "half";
    for (let head = 0, start = 0; head < heads; head++, start += size) {
      const gain = weights[`${name}.attention.gain`][head], end = start + size;
      q.set(norm(q.subarray(start, end), gain), start);
      k.set(norm(k.subarray(start, end), 1), start);
      if (switches.off) continue;
      turn(q, start, position, freqs, layout, factor);
      turn(k, start, position, freqs, switches.other_keys ? other : layout, factor);
      if (switches.values) turn(v, start, position, plain, layout);
    }
    held.keys.push(k); // turned, so that no key of the past is turned again
    held.values.push(v);

    const count = held.keys.length;
    const first = switches.window ? Math.max(0, count - switches.window) : 0;
    const out = new Float64Array(dim);
    for (let head = 0, start = 0; head < heads; head++, start += size) {
      const scores = [];
      for (let n = first; n < count; n++) {
        let score = 0;
        for (let i = start; i < start + size; i++) score += q[i] * held.keys[n][i];
        scores.push(score / Math.sqrt(size));
      }
      const shares = softmax(scores);
      shares.forEach((share, n) => {
        const value = held.values[first + n];
        for (let i = start; i < start + size; i++) out[i] += share * value[i];
      });
      if (switches.values && !switches.off) turn(out, start, -position, plain, layout);
      seen.push(shares.reverse()); // by distance: 0 is the token itself
    }
    return out;
  }

  // One token in; out come the logits of the next one and, for each head of each block,
  // the weights by distance.
  function step(model, cache, token, switches) {
    const { dim, depth } = model.config, weights = model.weights, seen = [];
    const lost = switches.forgotten && cache.length >= cache.prompt;
    const position = lost ? 0 : cache.length;
    const add = (x, y) => x.map((value, i) => value + y[i]);
    let x = weights["embedding.weight"].slice(token * dim, (token + 1) * dim);
    for (let block = 0; block < depth; block++) {
      const name = `blocks.${block}`;
      const heard = norm(x, weights[`${name}.attention_norm.weight`]);
      const held = cache.blocks[block];
      const out = attend(model, name, heard, held, position, switches, seen);
      x = add(x, times(weights[`${name}.attention.out.weight`], out));
      const told = norm(x, weights[`${name}.feed_forward_norm.weight`]);
      const up = times(weights[`${name}.up.weight`], told);
      const squared = up.map((value) => Math.max(value, 0) ** 2);
      x = add(x, times(weights[`${name}.down.weight`], squared));
    }
    cache.length += 1;
    const logits = times(weights["head.weight"], norm(x, weights["norm.weight"]));
    return { logits, seen };
  }

  // ln p of every token of the vocabulary.
  function logProbabilities(logits) {
    const most = Math.max(...logits);
    const sum = logits.reduce((total, logit) => total + Math.exp(logit - most), 0);
    return logits.map((logit) => logit - most - Math.log(sum));
  }

  // A token drawn from logits that are divided by the temperature; `random` is uniform
  // from 0 to 1.
  function draw(logits, temperature, random) {
    const sharper = logits.map((logit) => logit / temperature);
    const p = logProbabilities(sharper).map(Math.exp);
    let rest = random;
    const found = p.findIndex((share) => (rest -= share) < 0);
    return found < 0 ? p.length - 1 : found;
  }

  globalThis.ropeLab = { half, read, newCache, step, logProbabilities, draw };
})();
