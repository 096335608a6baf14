// Applies a filter when it is changed, and refreshes the page. Without scripts, both need a click.
"use strict";

(() => {
  const EVERY = 15000; // milliseconds
  const main = document.querySelector("main");
  const bar = document.querySelector(".bar");
  const news = document.querySelector(".news");
  let shown = main.innerHTML; // as the server sent it, before the visitor opened details
  let wanted = location.href;
  let search = location.search; // the filters of the page that is shown
  let offered = null;

  /** The current page at `url` from the server; null when it cannot be loaded. */
  async function read(url) {
    try {
      const answer = await fetch(url, { redirect: "manual" });
      if (answer.type === "opaqueredirect") location.reload(); // signed out
      return answer.ok ? new DOMParser().parseFromString(await answer.text(), "text/html") : null;
    } catch {
      return null; // offline, or the server does not answer; the next refresh tries again
    }
  }

  function show(page) {
    const fresh = page.querySelector("main");
    shown = fresh.innerHTML;
    document.title = page.title;
    main.replaceChildren(...fresh.childNodes);
    // The filters may have new choices. They are not replaced while the visitor is using them.
    if (!bar.contains(document.activeElement)) bar.replaceChildren(...page.querySelector(".bar").childNodes);
    news.replaceChildren();
  }

  /** Whether the visitor is using a part of the page, which must not change then. */
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
    if (url !== wanted) return; // another filter was chosen meanwhile
    if (page === null) {
      location.assign(url);
      return;
    }
    history.pushState(null, "", url);
    search = location.search;
    show(page);
  });

  addEventListener("popstate", () => {
    if (location.search !== search) location.reload(); // otherwise it was a jump within the page
  });
  document.addEventListener("visibilitychange", refresh);
  setInterval(refresh, EVERY);
})();
