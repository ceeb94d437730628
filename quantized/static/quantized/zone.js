// The server shows times on the clocks of this cookie.
"use strict";

const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
if (/^[\w+\-/]{1,64}$/.test(zone)) {
  const secure = location.protocol === "https:" ? "; Secure" : "";
  document.cookie = `tz=${zone}; Path=/; Max-Age=31536000; SameSite=Lax${secure}`;
}
