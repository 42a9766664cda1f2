//! How the page looks: on a screen with a lane for every actor, on a phone in one column, on
//! paper without colours that have to be told apart. Owns the style sheet.

/// The style sheet, the only one: the page fetches nothing.
pub(super) const SHEET: &str = "
:root{--ink:#1c2128;--soft:#5a6572;--line:#d8dee6;--paper:#fff;--bad:#c0182b;--badbg:#fdecee;
--task:#2457c5;--taskbg:#eaf0fd;--handler:#0b7a53;--handlerbg:#e7f6ef;--clock:#7a5b0b;--clockbg:#fbf3dd}
*{box-sizing:border-box}
body{margin:0 auto;padding:1.2rem;max-width:86rem;color:var(--ink);background:var(--paper);
font:15px/1.45 system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}
h1{font-size:1.5rem;overflow-wrap:anywhere;margin:.2rem 0 .4rem;line-height:1.2}
h2{font-size:1.05rem;margin:1.8rem 0 .6rem}
.brand{color:var(--soft);margin:0;font-size:.85rem}
.class{color:var(--bad);text-transform:uppercase;letter-spacing:.02em}
.verdict{background:var(--badbg);border-left:4px solid var(--bad);padding:.6rem .8rem;margin:.6rem 0}
.well{background:var(--handlerbg);border-color:var(--handler)}
.facts{display:flex;flex-wrap:wrap;gap:.2rem 1.4rem;margin:.6rem 0;color:var(--soft);font-size:.9rem}
.facts div{display:flex;gap:.4rem}.facts dt{font-weight:600}.facts dd{margin:0;overflow-wrap:anywhere}
code,pre{font:13px/1.45 ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace}
pre{overflow-x:auto;background:#f5f7fa;padding:.8rem;border-radius:6px}
figure{margin:0;overflow-x:auto}
svg{display:block;width:100%;max-width:62rem;height:auto}
.narrow{display:none}
svg text{font:11px system-ui,'DejaVu Sans',sans-serif;fill:var(--ink)}
.legend{color:var(--soft);font-size:.85rem;margin:0 0 .6rem;max-width:62rem}
.turns{margin:0;padding-left:2.4rem}.turns li{padding:.1rem 0}
.turns li::marker{color:var(--soft);font-variant-numeric:tabular-nums}
.key{display:flex;flex-wrap:wrap;gap:.3rem 1rem;font-size:.82rem;color:var(--soft);margin:.5rem 0 0}
.key i{display:inline-block;width:.9rem;height:.9rem;border:1px solid #8a94a0;border-radius:2px;
vertical-align:-.1rem;margin-right:.3rem}
.row{display:grid;grid-template-columns:2.2rem repeat(var(--lanes),minmax(7.5rem,1fr)) 9.5rem 13rem;
column-gap:.5rem;align-items:start;padding:.14rem 0}
.row.run{border-top:1px solid var(--line);padding-top:.4rem;margin-top:.26rem}
.head{position:sticky;top:0;background:var(--paper);font-weight:600;border-bottom:2px solid var(--ink);
padding:.4rem 0;z-index:2}
.head .stuck{color:var(--bad)}
.n{color:var(--soft);text-align:right;font-variant-numeric:tabular-nums;font-size:.85rem;padding-top:.15rem}
.card{border-radius:5px;padding:.12rem .5rem;border-left:3px solid;font-size:.92rem}
.card b{display:none}
.task{background:var(--taskbg);border-color:var(--task)}
.handler{background:var(--handlerbg);border-color:var(--handler)}
.clock{background:var(--clockbg);border-color:var(--clock)}
.side{font-size:.82rem;color:var(--soft);padding-top:.15rem}
.side span{white-space:nowrap;margin-right:.5rem}
.side span.page{white-space:normal}
.new{color:var(--ink);font-weight:600}
.changing{color:var(--bad)}
.rule{position:relative;cursor:help;font-size:.72rem;color:var(--soft);border:1px solid var(--line);
border-radius:3px;padding:0 .25rem;background:#fff;white-space:nowrap}
.tip{display:none;position:absolute;left:0;top:1.5em;z-index:3;width:17rem;max-width:70vw;white-space:normal;
background:var(--ink);color:#fff;padding:.5rem .6rem;border-radius:5px;font-size:.82rem}
.rule:hover .tip,.rule:focus .tip{display:block}
.fatal{margin:.6rem 0 0 2.7rem;color:var(--bad);font-weight:600;border-top:3px double var(--bad);padding-top:.5rem}
dl.rules{display:grid;grid-template-columns:max-content 1fr;gap:.3rem .9rem;margin:0}
dl.rules dt{font-weight:600}dl.rules dd{margin:0}
details{margin:.6rem 0}summary{cursor:pointer;font-weight:600}
@media screen and (max-width:760px){
.wide{display:none}.narrow{display:block}
body{padding:.8rem;font-size:15px}
.head{display:none}
.row{grid-template-columns:1.7rem 1fr;column-gap:.45rem}
.row .card{grid-column:2!important}
.row .side{grid-column:2!important;padding:.05rem 0 0 .6rem}
.row .side:empty{display:none}
.row:not(.run) .card b{display:none}
.row.run .card b{display:block;font-size:.8rem}
.fatal{margin-left:0}
}
@media print {
@page{margin:1.2cm}
html{font-size:10px}
body{padding:0;max-width:none;font-size:10px}
.side span{white-space:normal}.facts,.key,.rule{font-size:8px}
.wide{display:block}.narrow{display:none}
.head{position:static}
.card{font-size:9px;background:none}
.tip{display:none!important}
.row{break-inside:avoid;grid-template-columns:1.6rem repeat(var(--lanes),1fr) 8.5rem 11rem}
.row .card b{display:none!important}
details,details[open]{break-inside:avoid}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}
}
";
