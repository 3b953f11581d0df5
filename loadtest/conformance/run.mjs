// Runs the suite in this process, judges each result with the suite's own display.mjs, writes JSON lines to stdout.
//   node run.mjs SUITE BASE-URL PARALLEL
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

const [suite, base, parallel] = process.argv.slice(2)
const load = async path => import(pathToFileURL(join(suite, path)).href)
const say = (value, then) => process.stdout.write(JSON.stringify(value) + '\n', then)

const fetch = createRequire(join(suite, 'cli.mjs'))('node-fetch')
const { runTests } = await load('client/runner.mjs')
const { testResults } = await load('client/test.mjs')
const { determineTestResult } = await load('lib/display.mjs')
const suites = (await load('tests/index.mjs')).default
suites.push((await load('tests/surrogate-control.mjs')).default) // as cli.mjs does

const total = suites.flatMap(one => one.tests).filter(test => test.browser_only !== true).length
const count = () => say({ done: Object.keys(testResults).length, total })
const timer = setInterval(count, 250)
await runTests(suites, fetch, false, base, Number(parallel))
clearInterval(timer)
count()

const judged = test => {
  const result = testResults[test.id]
  return {
    id: test.id,
    name: test.name,
    kind: test.kind ?? 'required',
    anchors: test.spec_anchors ?? [],
    sign: determineTestResult(suites, test.id, testResults)[2],
    why: Array.isArray(result) ? `${result[0]}: ${result[1]}` : ''
  }
}
// connections kept alive would hold it
say({ suites: suites.map(({ id, name, tests }) => ({ id, name, tests: tests.map(judged) })) }, () => process.exit(0))
