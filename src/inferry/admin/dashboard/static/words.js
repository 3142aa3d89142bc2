// The page's words. English is the key; what has no translation is shown in English.
const CHINESE = {
  "15 minutes, live": "15 分钟，实时", "30 days": "30 天", "7 days": "7 天", Actions: "操作", "All keys; their texts are nowhere.": "所有密钥；其明文不在任何地方保存。",
  Answers: "回答", Auto: "自动", "Back to automatic": "恢复自动", "Begins with": "开头", Cached: "命中缓存", Cancel: "取消", "Completion tokens": "生成 token",
  "Copied.": "已复制。", Copy: "复制", "Copy as Python": "复制为 Python", "Copy as curl": "复制为 curl", Cost: "费用", "Cost/month": "每月费用", Dark: "深色",
  Deployment: "部署", Deployments: "部署", "Do it": "执行", Drain: "排空", Events: "事件", Expires: "到期", "Expires (30d, 12h, never)": "到期（30d、12h、never）",
  "Export CSV": "导出 CSV", Failed: "失败", Fleet: "集群", Follow: "跟随", From: "原", "From the ledger; the last second may be missing.": "来自账本；最近一秒可能尚未计入。",
  "Gateway key, if it asks for one": "网关密钥（如需要）", "Group by": "分组", "Hello!": "你好！", "ITL p50": "ITL p50", "In flight": "处理中", "In flight and waiting": "处理中与等待中",
  "It finishes or hands over what it has, and a new engine takes its place.": "它会完成或移交现有请求，然后由新引擎接替。",
  "It gets a new text; the old one works for another hour.": "将生成新的明文；旧的再有效一小时。",
  "It gets no new requests, and its engine ends when it has none left.": "它不再接收新请求，处理完毕后引擎结束。",
  "Its engine is started, and gets requests when it is ready.": "将启动其引擎，就绪后接收请求。",
  "KV cache": "KV 缓存", Key: "密钥", Keys: "密钥", Language: "语言", Light: "浅色", Limits: "限额", Lines: "行数", Log: "日志", "Log of": "日志来源", Logs: "日志", "Logs & events": "日志与事件",
  "Make key": "创建密钥", Message: "消息", Name: "名称", "Name (made up if empty)": "名称（留空自动生成）", "New key": "新密钥",
  "No deployment has a 'scaling' section in the file: numbers change by hand, on the Fleet page.": "文件中没有部署带 scaling 一节：副本数在“集群”页手动调整。",
  "No look yet.": "尚未评估。", "Nothing was decided yet.": "尚无决策。", "Nothing was used in that time.": "该时段没有用量。", Pages: "页面", Playground: "试用", "Prompt tokens": "提示 token", Refresh: "刷新",
  Replica: "副本", Replicas: "副本", "Replicas of": "副本：", "Replicas, newest first": "副本，最新在前", Requests: "请求", "Requests per second": "每秒请求数", "Requests/min": "请求/分钟", Restart: "重启", Restarts: "重启次数",
  Revoke: "吊销", Rotate: "轮换", Rule: "规则", Scale: "伸缩", Scaling: "自动伸缩", Scope: "权限", Scopes: "权限", Send: "发送", Side: "栏", "Side by side": "并排比较", "Sign in": "登录", "Sign out": "退出", Since: "起始", Span: "时段",
  Start: "启动", "Start over": "重新开始", State: "状态", Stop: "停止", "System message": "系统消息", "TTFT p50": "TTFT p50", "TTFT p95": "TTFT p95", Temperature: "温度", Tenant: "租户",
  "The file on disk is not in force:": "磁盘上的文件未生效：", Theme: "主题", "There are no keys yet. Whether requests need one, the file says: gateway.auth.": "还没有密钥。请求是否需要密钥由文件中的 gateway.auth 决定。",
  "This browser does not let pages copy here; mark the text and copy it by hand.": "浏览器不允许页面复制；请选中文本手动复制。", "This is its text. It is shown this once:": "这是密钥明文，仅显示这一次：",
  "This key is for looking: what changes anything is refused.": "此密钥只读：任何更改都会被拒绝。", "Time between tokens, ms": "token 间隔（毫秒）", "Time to first token, ms": "首个 token 时间（毫秒）", To: "新",
  Tokens: "token", "Tokens at most": "最多 token", "Tokens per second": "每秒 token", "Tokens/day": "token/天", "Tokens/s": "token/秒", Traffic: "流量",
  "Until the file says another number. Replicas that leave finish or hand over what they have.": "在文件给出其他数目之前有效。离开的副本会完成或移交现有请求。",
  "Usage & cost": "用量与费用", What: "事项", "What became of it": "结果", "What each rule wants": "各规则的要求", "What was decided, newest first": "决策记录，最新在前", When: "时间", Why: "原因",
  "With a key of scope admin, or read-only just to look.": "使用 admin 权限的密钥；只查看可用 read-only。", "Within a second nobody gets in with it. This can't be undone.": "一秒之内该密钥即失效，且不可恢复。",
  "Write a message": "输入消息", You: "你", "Your message (Ctrl-Enter sends)": "你的消息（Ctrl-Enter 发送）", all: "全部", "all deployments": "所有部署", "all time": "全部时间", bounds: "范围", "by hand": "手动", coming: "启动中",
  connecting: "连接中", day: "日期", deployment: "部署", done: "完成", "errors/s": "错误/秒", failed: "失败", generated: "生成", generation: "版本", "in flight": "处理中", key: "密钥",
  "last day, by the minute": "最近一天，按分钟", live: "实时", model: "模型", never: "永不", "no connection": "连接中断", prompts: "提示", refused: "被拒", "requests/s": "请求/秒", serving: "服务中", status: "状态", stopped: "已停止",
  tenant: "租户", "today (UTC)": "今天（UTC）", tokens: "token", "tokens not told": "未报告 token", "tokens/s": "token/秒", total: "合计", waiting: "等待", wanted: "期望", whole: "全程",
};
let now = "en";

export const language = () => now;

export function setLanguage(name) {
  now = name === "zh" ? "zh" : "en";
  document.documentElement.lang = now === "zh" ? "zh-CN" : "en";
}

export const t = (words) => (now === "zh" ? (CHINESE[words] ?? words) : words);
