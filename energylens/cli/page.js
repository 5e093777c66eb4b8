// Keys are for the terminal from its first byte on, and again when the window is come back to.
const reach = () => document.querySelector(".xterm-helper-textarea")?.focus({ preventScroll: true });
new MutationObserver(reach).observe(document.body, { attributeFilter: ["class"] });
window.addEventListener("focus", reach);
