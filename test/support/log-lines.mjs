// Writes far more lines than anybody takes, says so, goes on when it is told to, and ends.
import { LineOutput } from '#src/main/tell/line-output.js';

const lines = new LineOutput();
const line = `${JSON.stringify({ msg: 'x'.repeat(1_000) })}\n`;
for (let n = 0; n < 4_000; n++) lines.write(line);
process.send({ dropped: lines.dropped });
process.once('message', async () => {
  while (process.stdout.writableLength > 0) await new Promise((resolve) => setTimeout(resolve, 5));
  lines.write('{"msg":"the last"}\n');
  await lines.end();
  process.send({ dropped: lines.dropped });
  process.exit(0);
});
