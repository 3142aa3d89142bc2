"""How the report looks, and the little script that shows figures under the pointer; without it nothing is missing."""

from __future__ import annotations

STYLE = """
:root{color-scheme:light dark;--back:#fff;--card:#f6f7f9;--ink:#1b1f24;--soft:#57606a;--edge:#d0d7de;--grid:#e6e9ed;
--s0:#0064a8;--s1:#c04b00;--s2:#00795a;--s3:#a2428c;--s4:#6f5f00;--good:#116b34;--warn:#8a5600;--bad:#b3261e;
--good-back:#e4f4e9;--warn-back:#fdf1d8;--bad-back:#fce6e4;--band:#8a94a033}
@media (prefers-color-scheme:dark){:root{--back:#12161b;--card:#1a2027;--ink:#e6e9ed;--soft:#a0aab4;--edge:#3a434d;
--grid:#2a323b;--s0:#5cb3f2;--s1:#f59b52;--s2:#3fc99b;--s3:#e08fcb;--s4:#d9c74f;--good:#6fd192;--warn:#f0b653;
--bad:#ff8a80;--good-back:#16301f;--warn-back:#35290f;--bad-back:#3d1a18;--band:#8a94a033}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1080px;padding:20px 16px 60px;background:var(--back);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
h1{font-size:1.5rem;margin:0 0 4px;overflow-wrap:anywhere}h2{font-size:1.2rem;margin:36px 0 10px}
h3{font-size:1rem;margin:0}p{margin:6px 0}.soft,.note,figcaption p{color:var(--soft)}.soft{overflow-wrap:anywhere}
.verdict{border:1px solid;border-left-width:8px;border-radius:8px;padding:10px 16px;margin:16px 0}
.verdict strong{font-size:1.6rem;letter-spacing:.04em}.verdict ul{margin:4px 0;padding-left:20px}
.valid{border-color:var(--good);background:var(--good-back)}.valid strong,.good{color:var(--good)}
.suspect{border-color:var(--warn);background:var(--warn-back)}.suspect strong,.warn{color:var(--warn)}
.invalid{border-color:var(--bad);background:var(--bad-back)}.invalid strong,.bad{color:var(--bad)}
.answer{font-size:1.3rem;font-weight:600;line-height:1.4;margin:14px 0 4px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(175px,1fr));gap:10px;margin:16px 0;padding:0}
.tiles li{list-style:none;background:var(--card);border:1px solid var(--edge);border-radius:8px;padding:8px 12px}
.tiles b{display:block;font-size:1.3rem;font-variant-numeric:tabular-nums}.tiles span{color:var(--soft);font-size:.85rem}
.wide{overflow-x:auto;margin:8px 0}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.92rem}
caption{text-align:left;color:var(--soft);padding:2px 0 4px}
th,td{padding:4px 12px 4px 0;text-align:right;border-bottom:1px solid var(--grid);white-space:nowrap}
th:first-child,td:first-child,td.text,th.text{text-align:left}td.text{white-space:normal;min-width:14em;overflow-wrap:anywhere}
thead th{color:var(--soft);font-weight:600;border-bottom-color:var(--edge)}tbody th{font-weight:600}
tr.second th{font-weight:400;padding-left:14px}
.plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,440px),1fr));gap:18px}
figure{margin:0;padding:12px;background:var(--card);border:1px solid var(--edge);border-radius:8px;min-width:0;
display:flex;flex-direction:column}figcaption{flex:1}
figcaption p{margin:2px 0 6px;font-size:.88rem}.note{font-size:.82rem}
.legend{display:flex;flex-wrap:wrap;gap:2px 16px;margin:0 0 4px;padding:0;font-size:.85rem}
.legend li{list-style:none;display:flex;align-items:center;gap:6px}.legend svg{width:26px;height:12px;flex:none}
.plot{display:block;width:100%;height:auto;overflow:visible}
svg path{fill:none}.grid{stroke:var(--grid)}.axis{stroke:var(--soft)}.tick,.name{font-size:12px;fill:var(--soft)}
.middle{text-anchor:middle}.end{text-anchor:end}.band{fill:var(--band)}
.line{stroke-width:2;stroke-linejoin:round}.dots{stroke-width:7;stroke-linecap:round}
.s0{stroke:var(--s0)}.s1{stroke:var(--s1)}.s2{stroke:var(--s2)}.s3{stroke:var(--s3)}.s4{stroke:var(--s4)}
.line.s1{stroke-dasharray:7 4}.line.s2{stroke-dasharray:2 3}.line.s3{stroke-dasharray:9 3 2 3}.line.s4{stroke-dasharray:4 2}
.rule{stroke:var(--ink);stroke-width:1.3;stroke-dasharray:10 5}.rule.upright{stroke-dasharray:4 2}
.mark.dot{stroke:var(--s0);stroke-width:4;stroke-linecap:round;stroke-opacity:.6}.mark.ring{stroke:var(--s3);stroke-width:1.3}
.mark.cross{stroke:var(--bad);stroke-width:1.7}.pointer{stroke:var(--soft);stroke-dasharray:2 2}
#tip{position:fixed;pointer-events:none;background:var(--ink);color:var(--back);border-radius:6px;padding:6px 9px;
font-size:.82rem;line-height:1.35;max-width:280px;white-space:pre-line;overflow-wrap:anywhere;z-index:9}
details{border:1px solid var(--edge);border-radius:8px;padding:8px 14px;margin:12px 0}summary{cursor:pointer;font-weight:600}
dt{font-weight:600;margin-top:8px}dd{margin:0 0 0 16px}pre{white-space:pre-wrap;overflow-wrap:anywhere;font-size:.85rem}
@media (max-width:560px){.tick,.name{font-size:14px}.tiles{grid-template-columns:1fr 1fr}
th:first-child{white-space:normal;min-width:9em}.legend{gap:2px 12px}.answer{font-size:1.15rem}}
@media print{body{max-width:none;padding:0}.plots{grid-template-columns:1fr 1fr}figure,table,.verdict,.tiles li{break-inside:avoid}
#tip{display:none}*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
"""

# Reads the figures back from the drawing, so that the page holds each number once.
SCRIPT = """
(function(){
var tip=document.createElement('div');tip.id='tip';tip.hidden=true;document.body.appendChild(tip);
var NS='http://www.w3.org/2000/svg';
function plain(v){if(!v)return '0';var d=Math.max(2-Math.floor(Math.log10(Math.abs(v))),0);
 return Number(v.toFixed(Math.min(d,9))).toLocaleString('en',{maximumFractionDigits:9})}
function text(v,u){if(u==='ms')return v>=999.5?plain(v/1000)+' s':v>0&&v<0.0995?plain(v*1000)+' \\u00b5s':plain(v)+' ms';
 if(u==='s')return v>=300?plain(v/60)+' min':plain(v)+' s';if(u==='share')return plain(100*v)+' %';
 return plain(v)+(u==='per_s'?'/s':u==='W'?' W':'')}
function axis(t,a,b){t=t.split(' ');var lo=+t[1],hi=+t[2];return function(p){var f=(p-a)/(b-a);
 return text(t[0]==='log'?lo*Math.pow(hi/lo,f):lo+(hi-lo)*f,t[3])}}
function points(d){var out=[],m,re=/[ML](-?[\\d.]+) (-?[\\d.]+)/g;while((m=re.exec(d)))out.push([+m[1],+m[2]]);return out}
document.querySelectorAll('svg.plot').forEach(function(svg){
 var at4=svg.querySelector('.axis').getAttribute('d').match(/[\\d.]+/g).map(Number);
 var L=at4[0],top=at4[1],B=at4[2],R=at4[3];
 var xs=axis(svg.dataset.x,L,R),ys=axis(svg.dataset.y,B,top),lines=null,labels=null,hair=null;
 function read(){lines=[];labels=[];svg.querySelectorAll('.line').forEach(function(p){
   lines.push([p.dataset.name,points(p.getAttribute('d'))])});
  svg.querySelectorAll('[data-labels]').forEach(function(p){var n=p.dataset.places.split(' ').map(Number);
   JSON.parse(p.dataset.labels).forEach(function(t,i){labels.push([n[2*i],n[2*i+1],t])})})}
 function hide(){tip.hidden=true;if(hair){hair.remove();hair=null}}
 function show(e){if(!lines)read();var box=svg.getBoundingClientRect(),k=svg.viewBox.baseVal.width/box.width;
  var x=(e.clientX-box.left)*k,y=(e.clientY-box.top)*k,said='',at=null;
  var near=labels.filter(function(l){return Math.hypot(l[0]-x,l[1]-y)<8})
   .sort(function(a,b){return Math.hypot(a[0]-x,a[1]-y)-Math.hypot(b[0]-x,b[1]-y)})[0];
  if(near)said=xs(near[0])+'\\n'+near[2];
  else if(x>=L-4&&x<=R+4&&lines.length){var best=null;lines.forEach(function(l){l[1].forEach(function(p){
    if(best===null||Math.abs(p[0]-x)<Math.abs(best-x))best=p[0]})});
   if(best===null)return hide();at=best;said=xs(best);lines.forEach(function(l){
    var p=l[1].reduce(function(a,b){return Math.abs(b[0]-best)<Math.abs(a[0]-best)?b:a},l[1][0]);
    if(p&&Math.abs(p[0]-best)<12)said+='\\n'+l[0]+': '+ys(p[1])})}
  if(!said)return hide();
  if(at!==null){if(!hair){hair=document.createElementNS(NS,'path');hair.setAttribute('class','pointer');svg.appendChild(hair)}
   hair.setAttribute('d','M'+at+' '+top+'V'+B)}
  tip.textContent=said;tip.hidden=false;
  tip.style.left=Math.max(4,Math.min(e.clientX+14,innerWidth-tip.offsetWidth-8))+'px';
  tip.style.top=Math.max(4,e.clientY-tip.offsetHeight-12)+'px'}
 svg.addEventListener('pointermove',show);svg.addEventListener('pointerdown',show);svg.addEventListener('pointerleave',hide)})
})();
"""
