"use strict";
(async () => {
  const byId = id => document.getElementById(id);
  const data = JSON.parse(byId("data").textContent);

  // what the page holds compressed: plotly.js, and the tables
  const unpack = id => {
    const bytes = Uint8Array.from(atob(byId(id).textContent), c => c.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  };
  for (const button of document.querySelectorAll("button[data-file]"))
    button.addEventListener("click", async () => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([await unpack(button.dataset.file)], {type: "text/csv"}));
      link.download = button.dataset.name;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    });
  const script = document.createElement("script");
  script.textContent = await unpack("plotly");
  document.head.append(script);

  const CONFIG = {displayModeBar: false, responsive: true};
  // plotly reads text as HTML
  const escaped = text => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const signed = (value, digits) =>
    value.toFixed(digits).replace(/^-(?=[0.]*$)/, "").replace(/^(-?)0\./, "$1.").replace("-", "−");
  const chance = p => p < 1e-4 ? "p < .0001" : `p ${signed(p, 4)}`;
  const element = (name, text, attributes = {}) => {
    const made = Object.assign(document.createElement(name), attributes);
    if (text !== undefined) made.textContent = text;
    return made;
  };

  function explore(root, id) {
    const own = data.explorers[id], cells = own.cells;
    const plot = root.querySelector(".plot"), told = root.querySelector(".cell");
    const {setting, view, measure, order} = Object.fromEntries(
      [...root.querySelectorAll("select")].map(select => [select.name, select]));
    let rows = [], columns = [], shown, figure, at = null;

    const interval = (key, cell) => cells[key + "_low"]?.[cell] == null ? ""
      : ` [${signed(cells[key + "_low"][cell], 3)}, ${signed(cells[key + "_high"][cell], 3)}]`;
    const number = (key, cell) => cells[key][cell] == null ? "not run"
      : signed(cells[key][cell], 3) + interval(key, cell);
    const facts = cell => [
      ...Object.entries(own.facts).map(([key, title]) => [title, number(key, cell)
        + (cells[key + "_p_adjusted"]?.[cell] == null ? "" : `, ${chance(cells[key + "_p_adjusted"][cell])} adjusted`)]),
      ["test images", cells.n[cell].toLocaleString("en")], ["trials", cells.trials[cell]]];
    const heading = cell => `${cells.arm[cell]} noise`
      + (cells.source[cell] === "any" ? "" : ` of ${cells.source[cell]}`) + `, tested under ${cells.target[cell]}`;
    const cellAt = (row, column) => shown.cells[rows[row]][columns[column]];
    const rectangle = (row, column, color, width) => ({type: "rect", layer: "above", line: {color, width},
      x0: column - .5, x1: column + .5, y0: row - .5, y1: row + .5});
    const frames = () => rows.flatMap((r, i) => columns.flatMap((c, j) =>
      cellAt(i, j) >= 0 && [shown.rows[r], shown.name].includes(shown.columns[c]) ? [rectangle(i, j, "#000", 2)] : []));

    function choose() {
      const list = own.settings[setting.value].views, kept = view.value;
      view.replaceChildren(...["arm", "target"].map(group => {
        const options = element("optgroup", undefined,
          {label: group === "arm" ? "all targets, under noise of one arm" : "all arms, under one target"});
        list.forEach((one, i) => one.group === group && options.append(
          element("option", one.group === "arm" && own.arms.includes(one.name) ? `arm ${one.name}` : one.name, {value: i})));
        return options;
      }).filter(group => group.children.length));
      view.value = kept in list ? kept : 0;
    }

    function draw() {
      shown = own.settings[setting.value].views[view.value];
      figure = own.measures[measure.value];
      const orders = shown.orders[figure.key][order.value];
      [rows, columns] = orders ?? [shown.rows.map((_, i) => i), shown.columns.map((_, i) => i)];
      const grid = (make, empty = "") => rows.map((_, i) => columns.map((_, j) => cellAt(i, j) < 0 ? empty : make(cellAt(i, j))));
      const long = Math.max(...shown.columns.map(name => name.length)) * 7;
      const wide = Math.min(root.querySelector(".scroll").clientWidth, 330 + 80 * columns.length);
      const width = Math.max(wide, 190 + 38 * columns.length);
      const trace = {...figure.figure.data[0],
        x: columns.map(c => escaped(shown.columns[c])), y: rows.map(r => escaped(shown.rows[r])),
        z: grid(cell => cells[figure.key][cell], null),
        text: grid(cell => cells[figure.key][cell] == null ? "–" : signed(cells[figure.key][cell], 2)),
        hovertext: grid(cell => [heading(cell), ...facts(cell).map(([name, value]) => `${name}: ${value}`)].map(escaped).join("<br>"))};
      const layout = structuredClone(figure.figure.layout);
      Object.assign(layout, {width, height: 34 * rows.length + long + 70, shapes: frames()});
      layout.xaxis.title = {text: shown.across, standoff: 8};
      layout.yaxis.title = {text: shown.down, standoff: 8};
      at = null;
      plot.setAttribute("aria-label", `Heatmap of ${figure.title}: ${shown.name}. Arrow keys move from cell to cell.`);
      tabulate();
      return Plotly.react(plot, [trace], layout, CONFIG);
    }

    function tabulate() {
      const head = element("tr");
      head.append(element("th", `${shown.down} \\ ${shown.across}`, {scope: "col"}),
        ...columns.map(c => element("th", shown.columns[c], {scope: "col"})));
      const lines = rows.map((r, i) => {
        const line = element("tr");
        line.append(element("th", shown.rows[r], {scope: "row"}), ...columns.map((_, j) => {
          const cell = cellAt(i, j), known = cell >= 0 && cells[figure.key][cell] != null;
          const box = element("td", known ? signed(cells[figure.key][cell], 3) : "–");
          if (known) box.append(element("small", interval(figure.key, cell)));
          return box;
        }));
        return line;
      });
      root.querySelector("table").replaceChildren(element("caption", `${shown.name}: ${figure.title}`), head, ...lines);
    }

    function tell(row, column) {
      const cell = cellAt(row, column);
      at = [row, column];
      if (cell < 0) return told.replaceChildren(element("p", "not run"));
      const list = element("dl");
      for (const [name, value] of facts(cell)) {
        const pair = element("div");
        pair.append(element("dt", name), element("dd", value));
        list.append(pair);
      }
      const network = own.settings[setting.value].network.split("+")[0];
      const pairs = data.examples[network] ?? {};
      const pictures = ["target", "source"].flatMap(role => {
        const name = cells[role][cell], pair = pairs[name];
        if (!pair || role === "source" && name === cells.target[cell]) return [];
        const picture = element("figure");
        picture.append(element("img", undefined, {src: pair[1], alt: `example image under ${name}`}),
          element("figcaption", `${role}: ${name}`));
        const clean = element("figure");
        clean.append(element("img", undefined, {src: pair[0], alt: "the same image, clean"}), element("figcaption", "clean"));
        return role === "target" && name !== "clean@0" ? [clean, picture] : [picture];
      });
      told.replaceChildren(element("h3", heading(cell)), list, ...pictures);
    }

    const mark = () => Plotly.relayout(plot, {shapes: [...frames(), rectangle(...at, "#0b5394", 4)]});
    const hovered = event => tell(event.points[0].pointIndex[0], event.points[0].pointIndex[1]);
    const STEPS = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]};
    plot.addEventListener("keydown", event => {
      const step = STEPS[event.key];
      if (!step) return;
      event.preventDefault();
      const [row, column] = at ?? [-step[0], -step[1]];
      const inside = (value, list) => Math.min(Math.max(value, 0), list.length - 1);
      tell(inside(row + step[0], rows), inside(column + step[1], columns));
      mark();
    });

    own.arms = [...new Set(cells.arm)];
    setting.append(...own.settings.map((one, i) => element("option", one.label, {value: i})));
    measure.append(...own.measures.map((one, i) => element("option", one.title, {value: i})));
    choose();
    setting.addEventListener("change", () => { choose(); draw(); });
    for (const select of [view, measure, order]) select.addEventListener("change", draw);
    draw().then(() => {
      plot.on("plotly_hover", hovered);
      plot.on("plotly_click", event => { hovered(event); mark(); });
    });
    return draw;
  }

  const drawings = [...document.querySelectorAll("[data-explorer]")].map(root => explore(root, root.dataset.explorer));
  for (const place of document.querySelectorAll("[data-plot]")) {
    const figure = data.plots[place.dataset.plot];
    Plotly.newPlot(place, figure.data, figure.layout, CONFIG);
  }

  // on paper nothing can be opened or scrolled
  let opened = [];
  const paper = matchMedia("print");
  paper.addEventListener("change", () => drawings.forEach(draw => draw()));
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details.printed:not([open])")];
    opened.forEach(one => { one.open = true; });
  });
  addEventListener("afterprint", () => opened.forEach(one => { one.open = false; }));
  addEventListener("resize", () => drawings.forEach(draw => draw()));
  document.documentElement.dataset.ready = "yes";
})();
