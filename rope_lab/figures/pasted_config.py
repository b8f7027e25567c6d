"""The first part of the script of the form of chapter 19: what a config says, read as in `rope_lab.interop`.

A test in a browser compares what the whole script writes with what Python writes, letter by letter. `__DATA__` stands
for the tables of model types and families, which `rope_lab.figures.paste` writes in.
"""

READ = r"""<script>
(function () {
  var DATA = __DATA__, TAU = 2 * Math.PI, BOUND = DATA.bound;
  function has(list, name) { return list.indexOf(name) >= 0; }
  function isMap(x) { return x !== null && typeof x === "object" && !Array.isArray(x); }
  function field(c) {
    for (var i = 1; i < arguments.length; i++) {
      var value = Object.prototype.hasOwnProperty.call(c, arguments[i]) ? c[arguments[i]] : null;
      if (value !== null) return value;
    }
    return null;
  }
  function full(x) { return isMap(x) ? Object.keys(x).length > 0 : Boolean(x); }
  function quoted(x) {  // as Python writes a string
    var mark = has(x, "'") && !has(x, '"') ? '"' : "'";
    x = x.replace(/\\/g, "\\\\").replace(/\n/g, "\\n").replace(/\r/g, "\\r").replace(/\t/g, "\\t");
    return mark + (mark === "'" ? x.replace(/'/g, "\\'") : x) + mark;
  }
  function shown(x) {
    if (x === null || x === undefined) return "None";
    if (x === Infinity || x === -Infinity) return x > 0 ? "inf" : "-inf";
    if (x === true || x === false) return x ? "True" : "False";
    if (Array.isArray(x)) return "[" + list(x) + "]";
    if (typeof x !== "object") return typeof x === "string" ? quoted(x) : String(x);
    return "{" + Object.keys(x).map(function (key) { return shown(key) + ": " + shown(x[key]); }).join(", ") + "}";
  }
  function list(names) { return names.map(shown).join(", "); }
  function refuse(text) { throw {said: text}; }
  function describe(c) {
    var kind = field(c, "model_type");
    return kind === null ? "config" : "config of model type " + shown(kind);
  }
  function whole(x) { return typeof x === "number" && Number.isInteger(x) && x > 0; }
  function wholeNumber(c, names) {
    var value = field.apply(null, [c].concat(names));
    if (!whole(value)) {
      refuse("config must give " + names.join(" or ") + " as a positive integer, got " + shown(value));
    }
    return value;
  }
  function number(name, x, least) {  // as the scalings check what they are given
    if (typeof x !== "number" || !(least === 1 ? x >= 1 : x > 0)) {
      var wanted = least === 1 ? "finite and at least 1" : "positive and finite";
      refuse(name + " must be " + wanted + ", got " + shown(x));
    }
  }

  // the kind of value of each field, as in rope_lab.atlas.kinds
  function isKind(kind, x) {
    if (kind === "name") return typeof x === "string";
    if (kind === "flag") return typeof x === "boolean";
    if (kind === "mapping") return isMap(x);
    if (kind === "list") return Array.isArray(x) && x.every(function (one) { return isKind("positive", one); });
    if (typeof x !== "number" || !isFinite(x)) return false;
    if (DATA.most[kind]) return whole(x) && x <= DATA.most[kind];
    return kind === "not negative" ? x >= 0 : x > 0 && (kind !== "share" || x <= 8);
  }
  function checkFields(c, table) {
    Object.keys(table).forEach(function (kind) {
      table[kind].forEach(function (name) {
        var value = field(c, name);
        if (value !== null && !isKind(kind, value)) {
          refuse(name + " must be " + DATA.wanted[kind] + ", got " + shown(value));
        }
      });
    });
  }
  function checkKinds(c) {
    checkFields(c, DATA.outside);
    ["rope_parameters", "rope_scaling"].forEach(function (name) {
      var p = field(c, name);
      if (p === null) return;
      checkFields(p, DATA.inside);
      Object.keys(p).forEach(function (key) { if (isMap(p[key])) checkFields(p[key], DATA.inside); });
    });
    var types = field(c, "layer_types"), apart = field(c, "per_layer_config") || {};
    var listed = Array.isArray(types) && types.every(function (one) { return typeof one === "string"; });
    if (types !== null && !listed) refuse("layer_types must be a list of strings");
    Object.keys(apart).forEach(function (index) {
      if (!/^[0-9]+$/.test(index) || (types && types.length && +index >= types.length)) {
        refuse("per_layer_config must have numbers of layers as names, got " + shown(index));
      }
      if (!isMap(apart[index])) refuse("per_layer_config must hold mappings, got " + shown(apart[index]));
      checkFields(apart[index], DATA.outside);
    });
  }

  // what a config says
  var LONGEST = DATA.context;
  function longest(c) { return wholeNumber(c, LONGEST); }
  function layerTypes(c) {
    var now = field(c, "rope_parameters");
    if (isMap(now) && full(now)) {
      return Object.keys(now).filter(function (name) { return isMap(now[name]); }).sort();
    }
    var apart = field(c, "rope_local_base_freq", "local_rope_theta") !== null;
    var unscaled = has(DATA.slidingUnscaled, field(c, "model_type")) && full(field(c, "rope_scaling"));
    return apart || unscaled ? ["full_attention", "sliding_attention"] : [];
  }
  function checkSingle(c) {
    var parts = Object.keys(c).filter(function (name) {
      return /_config$/.test(name) && isMap(c[name]) && typeof field(c[name], "model_type") === "string";
    }).sort();
    var texts = parts.filter(function (name) { return has(DATA.parts, name); });
    if (texts.length || (parts.length && field(c, "hidden_size", "n_embd", "d_model") === null)) {
      var one = (texts.length ? texts : parts)[0];
      refuse("config must be of one transformer, such as its " + one + ", got " + describe(c));
    }
  }
  function checkRotates(c) {
    ["position_embedding_type", "position_embeddings_type"].forEach(function (name) {
      var value = field(c, name);
      if (!has([null, "rope", "rotary"], value)) {
        refuse(name + " must be 'rope' or 'rotary', got " + shown(value));
      }
    });
    [["alibi", false], ["use_mem_rope", true]].forEach(function (pair) {
      if (field(c, pair[0]) === !pair[1]) {
        var wanted = shown(pair[1]), got = shown(!pair[1]);
        refuse(pair[0] + " must be " + wanted + " in a config with a rotation, got " + got);
      }
    });
  }
  function parameters(c, layer) {
    checkSingle(c);
    checkRotates(c);
    var now = field(c, "rope_parameters"), p = full(now) ? version5(c, now, layer) : version4(c, layer);
    var kinds = [];
    ["rope_type", "type"].forEach(function (key) {
      var kind = field(p, key);
      delete p[key];
      kind = kind !== null && field(DATA.renamed, kind) || kind;
      if (kind !== null && !has(kinds, kind)) kinds.push(kind);
    });
    if (kinds.length > 1) refuse("rope_type must be the same as type, got [" + list(kinds.sort()) + "]");
    p.rope_type = kinds.length ? kinds[0] : "default";
    if (!has(DATA.ropeTypes, p.rope_type)) {
      refuse("rope_type must be one of (" + list(DATA.ropeTypes) + "), got " + shown(p.rope_type));
    }
    checkKeys(c, p);
    return p;
  }
  function version5(c, now, layer) {
    if (!isMap(now)) refuse("rope_parameters must be a mapping, got " + shown(now));
    var p = Object.assign({}, layer === null ? now : now[layer]), old = field(c, "rope_scaling");
    var beside = {rope_theta: field(c, "rope_theta"), partial_rotary_factor: field(c, "partial_rotary_factor")};
    if (isMap(old)) Object.assign(beside, old);
    if (layer === null) Object.keys(beside).forEach(function (name) {
      var value = beside[name];
      if (value === null) return;
      if (p[name] === undefined) p[name] = value;
      if (p[name] !== value) {
        var there = shown(p[name]), got = shown(value);
        refuse(name + " must be the same as in rope_parameters, " + there + ", got " + got + " beside it");
      }
    });
    if (field(p, "rope_theta") === null) {
      refuse("rope_theta must be given in rope_parameters, got " + shown(p));
    }
    return p;
  }
  function version4(c, layer) {
    var old = field(c, "rope_scaling") || {}, kind = field(c, "model_type"), sliding = layer === "sliding_attention";
    if (!isMap(old)) refuse("rope_scaling must be a mapping, got " + shown(old));
    var p = sliding ? {} : Object.assign({}, old);
    var names = sliding ? ["rope_local_base_freq", "local_rope_theta"] : [];
    var base = field.apply(null, [c].concat(names, DATA.base));
    if (base === null) base = field(p, "rope_theta") || (has(DATA.baseInCode, kind) ? 10000 : null);
    if (base === null) refuse("rope_theta must be given, got none in " + describe(c));
    if (p.rope_theta === undefined) p.rope_theta = base;
    if (p.rope_theta !== base) {
      refuse("rope_theta must be the same as in rope_scaling, " + shown(p.rope_theta) + ", got " + shown(base));
    }
    var part = field(c, "partial_rotary_factor", "rotary_pct");
    var needed = has(DATA.partial, kind) && !has(DATA.wholeByDefault, kind);
    if (part === null && needed && field(c, "rotary_dim") === null) {
      refuse("partial_rotary_factor must be given for model type " + shown(kind) + ", got None");
    }
    if (part !== null) p.partial_rotary_factor = part;
    var original = field(c, "original_max_position_embeddings"), type = field(p, "rope_type", "type");
    if (original !== null && has(["longrope", "su", "yarn", "llama3"], type)) {
      p.original_max_position_embeddings = original;
      if (has(["longrope", "su"], type)) p.factor = longest(c) / original;
    }
    return p;
  }
  function checkKeys(c, p) {
    var type = p.rope_type, kind = field(c, "model_type");
    var needed = DATA.needed[type] || [], allowed = DATA.everywhere.concat(DATA.optional[type] || [], needed);
    if (type === "dynamic" && /^hunyuan/.test(kind)) {
      allowed = allowed.concat(DATA.hunyuan);
      if (p.alpha) needed = ["alpha"];
    }
    if (type === "longrope" && kind === "phimoe") {
      allowed = allowed.concat(DATA.phimoe);
      needed = needed.concat(DATA.phimoe);
    }
    Object.keys(p).forEach(function (name) {
      var value = p[name];
      if (value !== null && !has(allowed, name) && !(name === "factor" && value === 1)) {
        refuse(name + " must be absent for rope_type " + shown(type) + " in " + describe(c) + ", got " + shown(value));
      }
    });
    needed.forEach(function (name) {
      if (field(p, name) === null) refuse(name + " must be given for rope_type " + shown(type) + ", got None");
    });
    var part = p.partial_rotary_factor || 1, known = field(DATA.layouts, kind) !== null;
    if (has(["default", "axial"], type) && part !== 1 && known && !has(DATA.partial, kind)) {
      var code = shown(kind) + ", whose code turns whole heads";
      refuse("partial_rotary_factor must be 1 for model type " + code + ", got " + part);
    }
    if (field(c, "rope_scaling_layers") !== null && type !== "default") {
      refuse("rope_scaling_layers must be absent: only some of the layers would be scaled");
    }
  }
  function ofLayer(c, layer) {  // where layers differ in more than their rope parameters (Gemma 4)
    if (layer === null) return c;
    var wide = field(c, "global_head_dim"), apart = field(c, "per_layer_config") || {};
    var types = field(c, "layer_types") || [];
    if (layer === "full_attention" && wide !== null) return Object.assign({}, c, {head_dim: wide});
    if (full(apart) && !types.length) {
      refuse("layer_types must be given where per_layer_config is, got []");
    }
    var own = Object.keys(apart).filter(function (index) { return types[+index] === layer; });
    own.sort(function (a, b) { return a - b; });
    return own.length ? Object.assign({}, c, apart[own[0]]) : c;
  }
  function headDim(c) {
    var given = field(c, "head_dim", "kv_channels", "attention_head_dim", "qk_rope_head_dim");
    if (given !== null) return given;
    var width = field(c, "hidden_size", "n_embd", "d_model"), embed = field(c, "embed_dim");
    if (embed !== null && embed !== width) {
      if (!/^qwen2_vl/.test(field(c, "model_type"))) {
        refuse("config must give hidden_size or embed_dim, got " + shown(width) + " and " + shown(embed));
      }
      width = embed;
    }
    if (width === null) refuse("config must give head_dim or hidden_size, got neither in " + describe(c));
    var heads = wholeNumber(c, ["num_attention_heads", "n_head", "n_heads", "num_heads"]);
    if (width % heads) {
      refuse("hidden_size must be a multiple of the " + heads + " heads without head_dim, got " + width);
    }
    return width / heads;
  }
  function rotaryDim(c, p) {
    var size = headDim(c), part = field(p, "partial_rotary_factor");
    if (has(["proportional", "axial"], p.rope_type)) return size;
    var turned = Math.trunc(size * (part || 1)), now = full(field(c, "rope_parameters"));
    ["rotary_dim", "qk_rope_head_dim"].forEach(function (name) {
      var given = field(c, name);
      if (given && given !== turned && (now || part !== null)) {
        var wanted = turned + ", " + (part || 1) + " of a head of " + size;
        refuse(name + " must be " + wanted + ", got " + given);
      }
      turned = given || turned;
    });
    return turned;
  }
  function frequencies(dim, base) {
    if (!whole(dim) || dim % 2) refuse("dim must be a positive even integer, got " + shown(dim));
    number("base", base);
    return Array.from({length: dim / 2}, function (_, i) { return Math.pow(base, -2 * i / dim); });
  }
  function scaled(freqs, p, length, c) {  // θ_i after the scaling, and the factor of cosine and sine
    var kind = p.rope_type, pairs = freqs.length, factor = p.factor;
    function each(f) { return {freqs: freqs.map(f), factor: 1}; }
    if (kind === "default" || kind === "axial") return {freqs: freqs, factor: 1};
    if (kind === "linear") {
      number("factor", factor, 1);
      return each(function (t) { return t / factor; });
    }
    if (kind === "dynamic") {
      number(p.alpha ? "alpha" : "factor", p.alpha || factor, 1);
      var L = p.alpha ? 0 : longest(c), by = p.alpha || factor * Math.max(length, L) / L - (factor - 1);
      return each(function (t, i) { return pairs < 2 ? t : t * Math.pow(by, -i / (pairs - 1)); });
    }
    if (kind === "proportional") {
      if (p.partial_rotary_factor > 1) refuse("p must lie in [0, 1], got " + p.partial_rotary_factor);
      var turning = Math.trunc((p.partial_rotary_factor || 1) * pairs);
      number("factor", factor || 1, 1);
      return each(function (t, i) { return i < turning ? t / (factor || 1) : 0; });
    }
    var original = p.original_max_position_embeddings || longest(c);
    if (kind !== "llama3") factor = factor || longest(c) / original;
    if (kind === "longrope") factor = Math.max(factor, 1);
    number("factor", factor, 1);
    number("original_length", original, 1);
    if (kind === "longrope" && original < 2) refuse("original_length must be at least 2, got " + original);
    if (kind === "llama3") {
      var low = p.low_freq_factor, high = p.high_freq_factor;
      number("low_freq_factor", low);
      number("high_freq_factor", high);
      if (low > high) refuse("low_freq_factor must be at most high_freq_factor=" + high + ", got " + low);
      return each(function (t) {
        var turns = original * t / TAU, keep = high > low ? (turns - low) / (high - low) : turns >= low ? 1 : 0;
        keep = Math.min(Math.max(keep, 0), 1);
        return t * keep + t / factor * (1 - keep);
      });
    }
    if (kind === "longrope") {
      var name = length > original ? "long" : "short", factors = p[name + "_factor"];
      if (factors.length !== pairs) {
        refuse(name + "_factors must have " + pairs + " numbers, one per pair, got " + factors.length);
      }
      factors.forEach(function (x) { number(name + "_factors", x); });
      var own = p.short_mscale === undefined ? p.attention_factor : p[name + "_mscale"];
      var found = each(function (t, i) { return t / factors[i]; });
      found.factor = own || (factor > 1 ? Math.sqrt(1 + Math.log(factor) / Math.log(original)) : 1);
      return found;
    }
    return yarn(freqs, p, factor, original);
  }
  function yarn(freqs, p, factor, original) {
    var pairs = freqs.length, fast = p.beta_fast || 32, slow = p.beta_slow || 1, log = 0.1 * Math.log(factor);
    number("beta_fast", fast);
    number("beta_slow", slow);
    if (slow > fast) refuse("beta_slow must be below beta_fast=" + fast + ", got " + slow);
    if (slow === fast) slow = slow * (1 - Math.pow(2, -53));  // a step instead of a ramp (Kimi K2)
    if (pairs < 2) refuse("freqs must have at least 2 pairs for a ramp over them, got " + pairs);
    var step = Math.log(freqs[0] / freqs[1]);
    var ends = [fast, slow].map(function (turns) { return Math.log(original / (turns * TAU)) / step; });
    if (p.truncate === undefined || p.truncate) ends = [Math.floor(ends[0]), Math.ceil(ends[1])];
    ends = ends.map(function (end) { return Math.min(Math.max(end, 0), 2 * pairs - 1); });
    if (ends[0] === ends[1]) ends[1] += 0.001;
    var attention = log + 1;
    if (p.mscale && p.mscale_all_dim) attention = (p.mscale * log + 1) / (p.mscale_all_dim * log + 1);
    return {factor: field(p, "attention_factor") || attention, freqs: freqs.map(function (t, i) {
      var ramp = Math.min(Math.max((i - ends[0]) / (ends[1] - ends[0]), 0), 1);
      return t * (1 - ramp) + t / factor * ramp;
    })};
  }
  function spectrum(c, layer, context) {
    var p = parameters(c, layer), kind = field(c, "model_type");
    if (field(DATA.changed, kind) !== null) {
      var why = DATA.changed[kind];
      refuse("frequencies of model type " + shown(kind) + " are not those of its config: " + why);
    }
    var dim = rotaryDim(ofLayer(c, layer), p), grid = p.rope_type === "axial" || has(DATA.twoHalves, kind);
    return measured(scaled(frequencies(grid ? Math.floor(dim / 2) : dim, p.rope_theta), p, context || 1, c), context);
  }
"""
