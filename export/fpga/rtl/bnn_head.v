// The class with the largest score; of equal ones the first. Scores come one a beat, in the order of the classes.
`default_nettype none
module bnn_head #(
  parameter N = 10,          // classes
  parameter AW = 7,          // bits of a sum
  parameter VALUES = 65,     // sums that can be reached, 0 to VALUES - 1
  parameter RANKED = 0,      // 1: compare what RFILE says of class and sum
  parameter KW = 7,          // bits of what is compared
  parameter SCORES = 1,      // hand out the sums too
  parameter RFILE = "",      // N * VALUES ranks
  parameter CW = N > 1 ? $clog2(N) : 1
) (
  input  wire clk,
  input  wire rst,
  input  wire in_valid,
  output wire in_ready,
  input  wire [AW-1:0] in_data,
  output wire out_valid,
  input  wire out_ready,
  output wire [CW-1:0] out_class,
  output wire [(SCORES ? N*AW : 1)-1:0] out_scores
);
  localparam LOG = 3;
  /* verilator lint_off WIDTHTRUNC */
  localparam [CW-1:0] LAST = N - 1;
  /* verilator lint_on WIDTHTRUNC */
  localparam FW = SCORES ? CW + N*AW : CW;
  wire credit;
  reg [CW-1:0] c0;
  wire first0 = c0 == 0;
  assign in_ready = !first0 || credit;
  wire take = in_valid && in_ready;
  wire [KW-1:0] key;
  // stage 1 to 3: the key of a score
  reg v1, v2, v3, f1, f2, f3, l1, l2, l3;
  reg [CW-1:0] c1, c2, c3;
  reg [AW-1:0] s1, s2, s3;
  always @(posedge clk) begin
    if (rst) c0 <= 0;
    else if (take) c0 <= c0 == LAST ? {CW{1'b0}} : c0 + 1'b1;
    v1 <= take && !rst; v2 <= v1 && !rst; v3 <= v2 && !rst;
    f1 <= first0; f2 <= f1; f3 <= f2;
    l1 <= c0 == LAST; l2 <= l1; l3 <= l2;
    c1 <= c0; c2 <= c1; c3 <= c2;
    s1 <= in_data; s2 <= s1; s3 <= s2;
  end
  generate
    if (RANKED) begin : ranked
      localparam RW = $clog2(N*VALUES) > AW ? $clog2(N*VALUES) : AW + 1;
      reg [KW-1:0] rmem [0:N*VALUES-1];
      initial $readmemh(RFILE, rmem);
      reg [RW-1:0] base, addr;
      reg [KW-1:0] r2, r3;
      always @(posedge clk) begin
        if (rst) base <= 0;
        else if (take) base <= c0 == LAST ? {RW{1'b0}} : base + VALUES;
        addr <= base + {{(RW-AW){1'b0}}, in_data};
        r2 <= rmem[addr];
        r3 <= r2;
      end
      assign key = r3;
    end else begin : plain
      assign key = s3;
    end
  endgenerate
  // stage 4: the best so far
  reg [KW-1:0] best;
  reg [CW-1:0] which;
  reg done;
  always @(posedge clk) begin
    done <= v3 && l3 && !rst;
    if (v3 && (f3 || key > best)) begin
      best <= key; which <= c3;
    end
  end
  wire [FW-1:0] found, held;
  generate
    if (SCORES) begin : all
      reg [N*AW-1:0] sums;
      if (N > 1) begin : many
        always @(posedge clk) if (v3) sums <= {s3, sums[N*AW-1:AW]};
      end else begin : one
        always @(posedge clk) if (v3) sums <= s3;
      end
      assign found = {sums, which};
      assign out_scores = held[FW-1:CW];
    end else begin : class_only
      wire [AW-1:0] unused = s3;
      assign found = which;
      assign out_scores = 1'b0;
    end
  endgenerate
  assign out_class = held[CW-1:0];
  bnn_credit #(.LOG(LOG)) places (
    .clk(clk), .rst(rst), .take(take && first0), .give(out_valid && out_ready), .ok(credit));
  bnn_fifo #(.W(FW), .LOG(LOG)) results (
    .clk(clk), .rst(rst), .push(done), .in_data(found), .out_valid(out_valid), .out_ready(out_ready), .out_data(held));
endmodule
`default_nettype wire
