// What fills the wide input of a parallel design.
`default_nettype none

// R beats of B bits become one word, the first in the lowest bits; each beat has a register of its own, which a ring
// of enables chooses, so no net leads to all of them.
module bnn_load #(parameter B = 8, parameter R = 2) (
  input  wire clk,
  input  wire rst,
  input  wire in_valid,
  output reg  in_ready,
  input  wire [B-1:0] in_data,
  output reg  out_valid,
  input  wire out_ready,
  output reg  [R*B-1:0] out_data
);
  wire take = in_valid && in_ready;
  reg [R-1:0] ring, place;    // where the next beat goes; where the one in `beat` goes, if any
  reg [B-1:0] beat;
  integer i;
  always @(posedge clk) begin
    beat <= in_data;
    for (i = 0; i < R; i = i + 1)
      if (place[i]) out_data[i*B +: B] <= beat;
  end
  wire leaves = out_valid && out_ready;
  always @(posedge clk) begin
    if (rst) begin
      ring <= 1; place <= 0; in_ready <= 1'b1; out_valid <= 1'b0;
    end else begin
      place <= take ? ring : {R{1'b0}};
      if (take) ring <= {ring, ring[R-1]};
      if (take && ring[R-1]) in_ready <= 1'b0;
      else if (leaves) in_ready <= 1'b1;
      if (place[R-1]) out_valid <= 1'b1;
      else if (leaves) out_valid <= 1'b0;
    end
  end
endmodule
`default_nettype wire
