// Filters when a choice changes, and keeps the page up to date. Without it both take a click.
"use strict";

(() => {
  const EVERY = 15000; // milliseconds
  const main = document.querySelector("main");
  const bar = document.querySelector(".bar");
  const news = document.querySelector(".news");
  let shown = main.innerHTML; // as the server sent it, before anybody opened anything
  let wanted = location.href;
  let search = location.search; // of what is shown
  let offered = null;

  /** The page at `url` as the server has it now; null when there is none to be had. */
  async function read(url) {
    try {
      const answer = await fetch(url, { redirect: "manual" });
      if (answer.type === "opaqueredirect") location.reload(); // signed out
      return answer.ok ? new DOMParser().parseFromString(await answer.text(), "text/html") : null;
    } catch {
      return null; // offline, or the server is away; there is a next time
    }
  }

  function show(page) {
    const fresh = page.querySelector("main");
    shown = fresh.innerHTML;
    document.title = page.title;
    main.replaceChildren(...fresh.childNodes);
    // There may be more to choose from; where somebody is choosing, it can wait.
    if (!bar.contains(document.activeElement)) bar.replaceChildren(...page.querySelector(".bar").childNodes);
    news.replaceChildren();
  }

  /** Whether somebody is at something that must not change under their hands. */
  function isBusy() {
    const focused = document.activeElement;
    const selected = getSelection();
    return (
      (focused !== main && main.contains(focused)) ||
      main.querySelector("details[open]") !== null ||
      (!selected.isCollapsed && main.contains(selected.anchorNode))
    );
  }

  function offer(page) {
    offered = page;
    if (news.firstChild) return;
    const button = document.createElement("button");
    button.textContent = "Show what is new";
    button.addEventListener("click", () => show(offered));
    news.append(button);
  }

  async function refresh() {
    const url = wanted;
    const page = document.hidden ? null : await read(url);
    if (page === null || url !== wanted || page.querySelector("main").innerHTML === shown) return;
    if (isBusy()) offer(page);
    else show(page);
  }

  bar.addEventListener("change", async (event) => {
    const filters = event.target.closest(".filters");
    const chosen = [...new FormData(filters)].filter(([, value]) => value !== "");
    const url = `/?${new URLSearchParams(chosen)}`;
    wanted = url;
    const page = await read(url);
    if (url !== wanted) return; // another choice has been made meanwhile
    if (page === null) {
      location.assign(url);
      return;
    }
    history.pushState(null, "", url);
    search = location.search;
    show(page);
  });

  addEventListener("popstate", () => {
    if (location.search !== search) location.reload(); // else it was a step within the page
  });
  document.addEventListener("visibilitychange", refresh);
  setInterval(refresh, EVERY);
})();
