"""The second part of the script of the form of chapter 19: what follows from the frequencies, and its lines.

It computes and words as `rope_lab.atlas.spectrum` and `rope_lab.atlas.reading` do, under the same names where that is
possible.
"""

REPORT = r"""
  // what follows from the frequencies
  function measured(found, context) {
    var turning = found.freqs.filter(function (t) { return t !== 0; });
    var waves = turning.map(function (t) { return TAU / t; });
    return {freqs: found.freqs, factor: found.factor, context: context, turning: turning, waves: waves,
      still: found.freqs.length - turning.length,
      fastest: Math.min.apply(null, waves), slowest: Math.max.apply(null, waves),
      unfinished: waves.filter(function (w) { return w > context; }).length};
  }
  function rounder(digits, least, largest) {
    return function (x) {
      x = Math.fround(x);
      if (x === 0) return 0;
      var unit = Math.pow(2, Math.max(Math.floor(Math.log2(x)), least) - digits), n = x / unit, r = Math.round(n);
      if (Math.abs(n % 1) === 0.5 && r % 2) r -= 1;
      return r * unit > largest ? Infinity : r * unit;
    };
  }
  var TYPES = [["bfloat16", 8, rounder(7, -126, Infinity)], ["float16", 11, rounder(10, -14, 65504)],
    ["float32", 24, Math.fround]];
  function firstError(s, type) {  // only as far as the context
    var slack = 3.01 * Math.pow(2, -type[1]) + Math.pow(2, -25), round = type[2];
    for (var m = Math.trunc(BOUND / (slack * Math.max.apply(null, s.turning))), end; m < s.context; m = end) {
      end = Math.min(m + 4096, s.context);
      var some = s.turning.filter(function (t) { return t * (slack * (m + 4096)) > BOUND; });
      for (var n = m; n < end; n++) {
        for (var i = 0; i < some.length; i++) {
          if (!(Math.abs(round(round(n) * round(some[i])) - n * some[i]) <= BOUND)) return n;
        }
      }
    }
    return null;
  }
  function geometric(s) {
    var logs = s.freqs.map(function (t) { return Math.log(t); }), count = logs.length - 1;
    var mean = (logs[count] - logs[0]) / count;
    return count > 0 && Math.abs(logs[0]) <= 1e-9 && logs.every(function (x, i) {
      return isFinite(x) && (!i || Math.abs(x - logs[i - 1] - mean) <= 1e-9 * Math.abs(mean));
    });
  }

  // the lines that report it
  function fixed(x, digits) {  // a tie goes to the even digit, as in Python
    if (x >= 1e21) return String(BigInt(x)) + (digits ? "." + "0".repeat(digits) : "");
    var text = x.toFixed(digits), power = Math.pow(10, digits), last = Math.floor(x * power);
    return x * power - last === 0.5 ? ((last + last % 2) / power).toFixed(digits) : text;
  }
  function comma(x, digits) {
    if (!isFinite(x)) return "inf";
    var parts = fixed(x, digits || 0).split(".");
    parts[0] = parts[0].replace(/\B(?=(\d{3})+$)/g, ",");
    return parts.join(".");
  }
  function short(x, digits) {
    var power = +x.toExponential(digits - 1).split("e")[1];
    function cut(text) { return has(text.split(""), ".") ? text.replace(/\.?0+$/, "") : text; }
    if (power >= -4 && power < digits) return cut(x.toFixed(digits - 1 - power));
    var size = Math.abs(power);
    return cut(x.toExponential(digits - 1).split("e")[0]) + (power < 0 ? "e-" : "e+") + (size < 10 ? "0" : "") + size;
  }
  function lines(s, name) {
    var pairs = s.waves.length, found = [], early = [];
    found.push((name ? name + ": " : "") + pairs + " pairs turn" + (s.still ? ", " + s.still + " more do not" : "") +
      "; wavelengths " + comma(s.fastest, 1) + " to " + comma(s.slowest) + " tokens" +
      (s.factor !== 1 ? ", cosine and sine times " + short(s.factor, 4) : ""));
    if (s.context === null) return found;
    TYPES.forEach(function (type) {
      var first = s.turning.length ? firstError(s, type) : null;
      if (first !== null) early.push(type[0] + " (first at position " + comma(first) + ")");
    });
    if (early.length) found.push("  precision: before the context of " + comma(s.context) +
      " tokens ends, angles err by more than " + BOUND + " radians if they are formed in " + early.join(", "));
    if (s.unfinished) found.push("  context: " + s.unfinished + " of " + pairs + " pairs never finish a turn in " +
      comma(s.context) + " tokens; the slowest needs " + comma(s.slowest) +
      ", so a longer text brings angles that no distance in the context has");
    if (!pairs) return found;
    var step = Math.max.apply(null, s.turning), turns = s.waves.map(function (w) { return s.context / w; });
    var kept = turns.filter(function (n) { return n > 32; }).length;
    var divided = turns.filter(function (n) { return n < 1; }).length;
    found.push("  twice the context, " + comma(2 * s.context) + " tokens:");
    found.push("    as it is: " + divided + " of " + pairs +
      " pairs reach angles that no distance in the context has");
    found.push("    position interpolation: no new angle, but neighbouring tokens are " + short(step / 2, 3) +
      " radians apart in the fastest pair instead of " + short(step, 3));
    if (!geometric(s)) {
      return found.concat("    NTK-aware and YaRN: they start from the powers of one base, which these frequencies " +
        "are not");
    }
    found.push("    NTK-aware: the base times " + short(Math.pow(2, pairs / (pairs - 1)), 4) +
      "; the fastest pair stays the same, the slowest is halved");
    found.push("    YaRN: " + kept + " pairs of more than 32 turns stay the same, " + divided +
      " of less than one are halved, " + (pairs - kept - divided) + " are blended; cosine and sine times " +
      short(pairs > 1 ? 0.1 * Math.log(2) + 1 : 1, 4));
    return found;
  }
  function missing(c, context) {
    var kind = field(c, "model_type"), found = [], layout = field(c, "rope_lab_layout") || field(DATA.layouts, kind);
    if (has(DATA.switched, kind) && field(c, "rope_interleave") === false) layout = "half";
    if (layout === null && field(DATA.neither, kind) !== null) {
      found.push("layout of model type " + shown(kind) + " is neither interleaved nor half: " + DATA.neither[kind]);
    } else if (layout === null) {
      found.push("layout must be given for model type " + shown(kind) + ": it is not among the " +
        Object.keys(DATA.layouts).length + " whose code was read");
    }
    if (context === null) found.push(LONGEST.join(" or ") + " must be given to compare wavelengths with a context");
    return [layout, found];
  }
  function alike(mine) {
    return DATA.families.filter(function (row) {
      var theirs = scaled(frequencies(row.dim, row.base), row.parameters, row.context || 1, {}).freqs;
      return row.context === mine.context && theirs.length === mine.freqs.length && theirs.every(function (t, i) {
        return Math.abs(t - mine.freqs[i]) <= 1e-9 * Math.abs(mine.freqs[i]);
      });
    }).map(function (row) { return row.name; });
  }
  function cache(c) {  // bytes per token, and what they are computed from
    var layers = field(c, "num_hidden_layers", "n_layer", "n_layers");
    var latent = field(c, "kv_lora_rank"), turned = field(c, "qk_rope_head_dim");
    if (layers && latent && turned) {
      return [2 * layers * (latent + turned), layers + " layers of " + latent + " + " + turned + " shared coordinates"];
    }
    var queries = field(c, "num_attention_heads", "n_head", "n_heads"), width = field(c, "hidden_size", "n_embd");
    var heads = field(c, "num_key_value_heads", "num_kv_heads", "n_head_kv", "n_kv_heads") || queries;
    if (field(c, "multi_query") === true && field(c, "new_decoder_architecture") !== true) heads = 1;  // Falcon 7B
    var size = field(c, "head_dim") || (width && queries ? Math.floor(width / queries) : null);
    if (!(layers && heads && size)) return null;
    return [4 * layers * heads * size, layers + " layers, " + heads + " heads of " + size];
  }
  function read(text) {
    var c;
    try {
      c = JSON.parse(text.replace(/"(?:[^"\\]|\\.)*"|\bInfinity\b/g, function (found) {  // as transformers writes files
        return found === "Infinity" ? "1e999" : found;
      }));
    } catch (error) {
      refuse("this is not JSON: " + error.message);
    }
    if (!isMap(c)) refuse("config must be a mapping, such as {\"model_type\": …}, got " + shown(c));
    var path = [], inner = true;
    while (inner) {
      inner = DATA.parts.filter(function (name) { return isMap(field(c, name)); })[0];
      if (inner) path.push(inner);
      if (inner) c = c[inner];
    }
    checkKinds(c);
    var part = path.join("."), context = field.apply(null, [c].concat(LONGEST)), kind = field(c, "model_type");
    var judged = missing(c, context), types = layerTypes(c), spectra = Object.create(null);
    (types.length ? types : [null]).forEach(function (layer) { spectra[layer || ""] = spectrum(c, layer, context); });
    var out = ["model type " + (kind === null ? "None" : kind) + (part ? " (its " + part + ")" : "") + ", layout " +
      (judged[0] || "unknown") + ", context " + (context ? comma(context) + " tokens" : "unknown")];
    var main = spectra[""] || spectra.full_attention, like = main ? alike(main) : [];
    if (like.length) out.push("frequencies as in " + like.join(", "));
    Object.keys(spectra).forEach(function (name) { out = out.concat(lines(spectra[name], name)); });
    var cached = cache(c);
    if (cached && context) {
      var total = cached[0] * context / Math.pow(2, 30);
      out.push("keys and values: " + cached[1] + ", " + comma(cached[0]) + " bytes per token in bfloat16; if every " +
        "layer keeps every token, " + fixed(total, 2) + " GiB for the context and " + fixed(2 * total, 2) +
        " GiB for twice the context, where full attention takes four times the products");
    }
    return {spectra: spectra, lines: out.concat(judged[1].map(function (why) { return "missing: " + why; }))};
  }

  // the page
  function strip(name, s) {
    function at(x) { return "left:" + Math.min(Math.max(100 * Math.log10(x) / 9, 0), 100).toFixed(2) + "%"; }
    var box = document.createElement("div"), said = s.waves.length + " wavelengths" + (name ? " of " + name : "");
    said += s.context ? ", " + s.unfinished + " of them beyond the context" : "";
    box.className = "strip";
    box.setAttribute("role", "img");
    box.setAttribute("aria-label", said);
    s.waves.forEach(function (w) {
      var mark = document.createElement("i");
      mark.setAttribute("style", at(w));
      if (s.context && w > s.context) mark.className = "late";
      box.appendChild(mark);
    });
    if (s.context) [s.context, 2 * s.context].forEach(function (length) {
      var edge = document.createElement("b");
      edge.setAttribute("style", at(length));
      box.appendChild(edge);
    });
    return box;
  }
  document.querySelectorAll(".rope-paste[data-fresh]").forEach(function (root) {
    root.removeAttribute("data-fresh");
    var area = root.querySelector("textarea"), pick = root.querySelector("select");
    var drawn = root.querySelector(".drawn"), said = root.querySelector(".said");
    area.readOnly = false;
    pick.disabled = false;
    root.querySelector(".without").hidden = true;
    function show() {
      var found;
      try {
        found = read(area.value);
      } catch (error) {
        var why = error && error.said || "this config cannot be read: " + error;
        found = {spectra: {}, lines: [why[0].toUpperCase() + why.slice(1) + "."]};
      }
      drawn.textContent = said.textContent = "";
      Object.keys(found.spectra).forEach(function (name) { drawn.appendChild(strip(name, found.spectra[name])); });
      root.querySelector(".scale").hidden = !drawn.children.length;
      found.lines.forEach(function (line) {
        var p = document.createElement("p"), words = line.replace(/^ +/, "");
        p.textContent = words;
        p.className = "by" + (line.length - words.length) / 2;
        said.appendChild(p);
      });
    }
    area.addEventListener("input", show);
    pick.addEventListener("change", function () {
      area.value = DATA.examples[pick.value];
      show();
    });
    show();
  });
})();
</script>"""
