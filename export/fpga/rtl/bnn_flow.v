// The shell of parallel designs: the handshake around a pipeline that never stops.
`default_nettype none

// A pipeline of LATENCY registers beside which this counts: an input sets out only when a place in the FIFO behind the
// pipeline is free for its result, so the pipeline has no enable and every stall ends here.
module bnn_flow #(
  parameter W = 8,        // bits of a result
  parameter LATENCY = 4,  // registers from the input of the pipeline to `result`
  parameter LOG = 4       // 2^LOG places; LATENCY + 4 keep it busy in every cycle
) (
  input  wire clk,
  input  wire rst,
  input  wire in_valid,
  output wire in_ready,
  input  wire [W-1:0] result,
  output wire out_valid,
  input  wire out_ready,
  output wire [W-1:0] out_data
);
  wire take = in_valid && in_ready;
  reg [LATENCY-1:0] under_way;
  always @(posedge clk) under_way <= rst ? {LATENCY{1'b0}} : {under_way, take};
  bnn_credit #(.LOG(LOG)) places (
    .clk(clk), .rst(rst), .take(take), .give(out_valid && out_ready), .ok(in_ready));
  bnn_fifo #(.W(W), .LOG(LOG)) results (
    .clk(clk), .rst(rst), .push(under_way[LATENCY-1]), .in_data(result),
    .out_valid(out_valid), .out_ready(out_ready), .out_data(out_data));
endmodule
`default_nettype wire
