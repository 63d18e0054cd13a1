import { Channel } from "../../src/channel/channel.js";
import { GatewayLink } from "../../src/channel/gateway-link.js";
import { channelConfig } from "../../src/config/schema.js";
import { openGateway } from "./support.js";

/** A channel in this process, without a model, behind a gateway of its own. */
export type Started = { channel: Channel; states: () => string[]; close: () => Promise<void> };

export async function start(input: string, outputs: string[], logs: string[] = []): Promise<Started> {
  const gateway = await openGateway();
  const link = new GatewayLink(gateway.socket, "main");
  const config = channelConfig.parse({ profile: "low", input, outputs });
  const channel = new Channel({
    name: "main",
    config,
    gateway: link,
    inference: null,
    log: (_, text, more) => void logs.push(`${text} ${JSON.stringify(more)}`),
  });
  channel.start();
  link.open();
  const states = () =>
    channel
      .status()
      .outputs.slice(1)
      .map((o) => o.state);
  return {
    channel,
    states,
    close: async () => {
      await channel.close();
      link.close();
      await gateway.close();
    },
  };
}
