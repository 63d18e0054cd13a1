import type { Check } from "./check.js";

const MARK: Record<Check["state"], string> = { ok: "ok     ", warn: "warn   ", missing: "MISSING" };

/** The findings for people; fixes stand below what they mend, and once more, together, at the end. */
export function reportText(checks: readonly Check[]): string {
  const lines: string[] = [];
  let area = "";
  for (const check of checks) {
    if (check.area !== area) {
      area = check.area;
      lines.push(area);
    }
    lines.push(`  ${MARK[check.state]} ${check.name}: ${check.detail.split("\n").join("\n          ")}`);
    if (check.fix) lines.push(`          fix: ${check.fix}`);
  }
  const missing = checks.filter((c) => c.state === "missing");
  const fixes = [...new Set(missing.map((c) => c.fix))];
  lines.push(
    "",
    missing.length === 0 ? "Everything that is needed is here." : `${missing.length} missing. To mend it:`,
  );
  if (missing.length > 0) lines.push(...fixes.map((fix) => `  ${fix}`));
  return `${lines.join("\n")}\n`;
}

/** 0, or 1 when something that is needed is missing. */
export function exitCode(checks: readonly Check[]): 0 | 1 {
  return checks.some((c) => c.state === "missing") ? 1 : 0;
}
